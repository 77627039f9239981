"""What a person sees."""

import io

import pytest

from tools.terminal import Terminal, clip, columns, display_width, pad


def test_columns_line_up_by_display_width() -> None:
    """Fails when widths are counted in characters: Chinese is two columns wide."""
    lines = columns([("北京仓", 7), ("Shanghai", 120)], right=[1])
    assert lines == ["北京仓      7", "Shanghai  120"]
    assert len({display_width(line) for line in lines}) == 1


def test_a_clipped_line_never_exceeds_its_width_nor_halves_a_character() -> None:
    """Fails when clipping counts characters."""
    assert clip("已发货 12", 7) == "已发货…"
    assert clip("已发货", 6) == "已发货"
    assert display_width(clip("已发货订单", 6)) <= 6
    assert pad("已", 4) == "已  "


def test_steps_are_numbered_and_timed_and_plain_without_a_terminal() -> None:
    """Fails when control codes reach a file, or the number, the text or the seconds go missing."""
    out = io.StringIO()
    terminal = Terminal(out, steps=2)
    with terminal.step("Kafka") as step:
        step.note("12 of 44 MB")
    with terminal.step("Orders") as step:
        step.done = "300 orders sent"
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("[1/2] Kafka ready 0.")
    assert lines[1].startswith("[2/2] 300 orders sent 0.")
    assert all(line.endswith(" s") for line in lines)
    assert "\x1b" not in out.getvalue()


def test_a_step_that_fails_says_so() -> None:
    """Fails when a failed step looks like a finished one."""
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), Terminal(out, steps=1).step("Kafka"):
        raise ValueError("no")
    assert out.getvalue().startswith("[1/1] Kafka failed 0.")


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when colours are written although NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = _FakeTerminal()
    terminal = Terminal(out)
    terminal.say("refused", "red")
    assert "\x1b[31m" not in out.getvalue()
    monkeypatch.delenv("NO_COLOR")
    terminal = Terminal(out)
    terminal.say("refused", "red")
    assert "\x1b[31m" in out.getvalue()


def test_the_live_line_stays_last_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a line is printed into the live one."""
    monkeypatch.setenv("TERM", "xterm-256color")
    out = _FakeTerminal()
    terminal = Terminal(out)
    terminal.live("received 12")
    terminal.say("a held order")
    assert out.getvalue().endswith("\r\x1b[2Ka held order\n\r\x1b[2Kreceived 12")


class _FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True
