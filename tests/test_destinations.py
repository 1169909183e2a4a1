"""A report that cannot be written is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaitedge.destinations import check_destination
from gaitedge.errors import InputError


def test_where_a_report_cannot_go(tmp_path: Path) -> None:
    assert check_destination(tmp_path / "out.MD", ".md") == tmp_path / "out.MD"
    with pytest.raises(InputError, match=r"out\.txt is not named as a \.md file; name it out\.md"):
        check_destination(tmp_path / "out.txt", ".md")
    with pytest.raises(InputError, match="there is no folder"):
        check_destination(tmp_path / "none" / "out.md", ".md")
    with pytest.raises(OSError, match="File name too long"):  # with what is added while it is written
        check_destination(tmp_path / f"{'x' * 240}.md", ".md")
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(InputError, match=r"folder\.md is a folder"):
        check_destination(tmp_path / "folder.md", ".md")
