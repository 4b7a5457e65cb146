"""A policy's answers beside a server's: through the script, against a server that answers in the form of OpenAI's."""

import sys
from pathlib import Path
from typing import Any

import pytest
from http_server import as_json, serving

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reply: dict[str, Any]
) -> tuple[int, str, list[Any]]:
    """The script's exit code and output, and what the server was asked, where it answers each prompt alike."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import compare_with_server

    with serving(lambda number, body: as_json(reply)) as asked:
        arguments = ["compare_with_server.py", "tiny", "--url", asked.url, "--served", "policy"]
        monkeypatch.setattr(sys, "argv", [*arguments, "--count", "2", "--max-new-tokens", "1"])
        with pytest.raises(SystemExit) as ended:
            compare_with_server.main()
    return int(ended.value.code or 0), capsys.readouterr().out, asked.bodies


def test_it_tells_answers_and_prompts_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(text: str, prompt: list[int] | None = None) -> dict[str, Any]:
        return {"choices": [{"message": {"content": text}}], "prompt_token_ids": prompt}

    code, output, bodies = run(monkeypatch, capsys, answer("Nothing."))
    assert code == 1
    assert "0 of 2 answers are the same" in output
    assert "aren't told by the server" in output
    content = bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert (bodies[0]["model"], bodies[0]["temperature"], bodies[0]["max_tokens"]) == ("policy", 0, 1)

    ours = output.split("ours:   '")[1].split("'")[0]  # captions begin alike: "There"
    code, output, _ = run(monkeypatch, capsys, answer(ours))
    assert (code, "2 of 2 answers are the same" in output) == (0, True)

    code, output, _ = run(monkeypatch, capsys, answer(ours, [3, 5, 5]))
    assert code == 1
    assert "the prompts' tokens differ" in output
