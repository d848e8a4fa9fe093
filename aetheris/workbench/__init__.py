"""The auditor's desk: `import aetheris.workbench as wb`, over a lake or an evidence zip.

wb.open(path)     jobs, checks and queries; every file's SHA-256 is checked first
wb.verify(zip)    the eight layers of an evidence package; with trust=KEYS, whose it is
wb.judge_all(…)   many packages, a row each
"""

from aetheris.workbench.desk import Desk, Job, judge_all, open, verify

__all__ = ["Desk", "Job", "judge_all", "open", "verify"]
