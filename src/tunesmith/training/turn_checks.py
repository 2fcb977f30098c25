"""What is refused, and what is told, about the trained spans of a rendered conversation."""

from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.spec.receipt import Finding
from tunesmith.training.turn_spans import END_OF_REASONING, ConversationView, UnstableError

_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def check_spans(view: ConversationView, trained: Sequence[int], spans: Sequence[tuple[int, int]]) -> None:
    """Refuse spans that overlap, or lack what the assistant says or calls.

    Raises:
        ChatTemplateError: one of them does.
    """
    floor = 0
    for index, (start, end) in zip(trained, spans, strict=True):
        if start < floor or end <= start:
            raise view.fault(index, "its trained text is empty or overlaps another turn")
        floor = end
        text = view.text[start:end]
        if view.answer(index) not in text:
            raise view.fault(index, "the chat template does not show what it says")
        for said in _called(view.turns[index]):
            if said not in text:
                raise view.fault(index, f"the chat template does not show {said!r} of its calls")
        for other, place in ((index - 1, view.text[:start]), (index + 1, view.text[end:])):
            said = _words(view, other)
            if said and said in text and said not in place and said not in str(view.turns[index]):
                raise view.fault(index, f"the chat template writes words of messages[{other}] into it")


def findings(view: ConversationView, trained: Sequence[int], spans: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """What the template does that its user may not expect."""
    yield from view.marks
    if any(_lacks_reasoning(view, index, span) for index, span in zip(trained, spans, strict=True)):
        yield "reasoning_left_out"
    asked = (turn for turn in view.turns if turn["role"] in ("system", "developer", "user"))
    if any(text.strip() not in view.text for turn in asked for text in _texts(turn)):
        yield "text_left_out"
    if len(view.turns) - 1 in trained and view.template.without_marks(view.text[spans[-1][1] :]).strip():
        yield "trailing_text"
    try:
        prompt = view.prefix(trained[-1], prompt=True)
    except UnstableError:
        return
    if not view.text.startswith(prompt):
        yield "other_prompt"


def _lacks_reasoning(view: ConversationView, index: int, span: tuple[int, int]) -> bool:
    turn = view.turns[index]
    said = [turn[key].strip() for key in _REASONING_FIELDS if isinstance(turn.get(key), str)]
    reasoning = END_OF_REASONING.match(turn["content"])
    if reasoning is not None:
        said.append(reasoning.group().partition("</think>")[0].strip().removeprefix("<think>").strip())
    return any(words not in view.text[slice(*span)] for words in said)


def _words(view: ConversationView, index: int) -> str:
    """What is said in a turn, if there is one at the index."""
    return "".join(_texts(view.turns[index])).strip() if 0 <= index < len(view.turns) else ""


def _texts(turn: dict[str, Any]) -> list[str]:
    """What is said in a turn: its text, or the texts between its pictures."""
    content = turn["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _called(turn: dict[str, Any]) -> Iterator[str]:
    """Names of called functions, and the arguments that every template writes as they are."""
    for call in turn.get("tool_calls", ()):
        function = call.get("function", call)
        yield str(function.get("name", ""))
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            yield from (value for value in arguments.values() if isinstance(value, str) and value.isalnum())
