"""The auditor's desk: `import aetheris.workbench as wb`, over a lake or an evidence zip.

wb.open(path)     jobs, checks and queries; every file's SHA-256 is checked first
wb.verify(zip)    the eight layers of an evidence package; with trust=KEYS, whose it is
wb.judge_all(…)   many packages, a row each
wb.verify_offline(zip)   the same in a process of its own, without network and database
wb.Claims()       what was asked, what was measured, whether it holds: a table of them
"""

try:
    from aetheris.workbench.claims import Claim, Claims
    from aetheris.workbench.desk import Desk, Job, judge_all, open, verify
    from aetheris.workbench.offline import Offline, verify_offline
except ModuleNotFoundError as error:
    lacking = (error.name or "").partition(".")[0]
    if lacking not in ("plotly", "ipywidgets", "IPython"):
        raise
    raise ModuleNotFoundError(
        f"the workbench needs {lacking}: pip install '.[workbench]' in a clone, or the wheel with [workbench]",
        name=lacking,
    ) from None

__all__ = ["Claim", "Claims", "Desk", "Job", "Offline", "judge_all", "open", "verify", "verify_offline"]
