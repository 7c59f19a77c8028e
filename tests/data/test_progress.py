"""Bars of what takes long."""

import io

import pytest

from rsretrieval.data.progress import bar


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown", "expected"), [
    (io.StringIO, True, True),  # asked for
    (Terminal, False, False),
    (io.StringIO, None, False),
    (Terminal, None, False),  # over before it would be seen
])  # fmt: skip
def test_where_it_shows(stream: type[io.StringIO], shown: bool | None, expected: bool) -> None:
    file = stream()
    assert list(bar(shown, [1, 2], unit=" pictures", file=file)) == [1, 2]
    assert ("2/2" in file.getvalue() and " pictures/s" in file.getvalue()) == expected


def test_by_itself_on_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    file = Terminal()
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with bar(None, total=9, unit=" texts", file=file) as progress:
        progress.update()
        assert not file.getvalue()
        now[0] = 5.0
        progress.update()
        assert "2/9" in file.getvalue()
