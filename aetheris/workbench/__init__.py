"""The auditor's desk: `import aetheris.workbench as wb`, over a lake or an evidence zip.

wb.open(path)     jobs, checks and queries; every file's SHA-256 is checked first
wb.verify(zip)    the eight layers of an evidence package; with trust=KEYS, whose it is
wb.judge_all(…)   many packages, a row each
"""

try:
    from aetheris.workbench.desk import Desk, Job, judge_all, open, verify
except ModuleNotFoundError as error:
    lacking = (error.name or "").partition(".")[0]
    if lacking not in ("plotly", "ipywidgets", "IPython"):
        raise
    raise ModuleNotFoundError(
        f"the workbench needs {lacking}: pip install 'aetheris[workbench]'", name=lacking
    ) from None

__all__ = ["Desk", "Job", "judge_all", "open", "verify"]
