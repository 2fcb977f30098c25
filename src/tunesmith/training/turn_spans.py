"""Which characters of a rendered conversation the assistant wrote.

Where a turn starts and ends in the whole render is found by comparing it with renders of the conversation's beginnings.
Some templates render a turn differently once others follow it (they strip its reasoning, say). For those, the
assistant's words are replaced by markers, and the text between the markers shows what the template writes around them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunesmith.data.formats import Conversation
from tunesmith.spec.errors import ChatTemplateError
from tunesmith.training.chat_template import ChatTemplate

_END_OF_REASONING = re.compile(r"^.*</think>\s*", re.DOTALL)


class _UnstableError(Exception):
    """The template renders the beginning of a conversation differently from the whole."""


class ConversationView:
    """One conversation beside its whole render."""

    def __init__(self, template: ChatTemplate, conversation: Conversation, turns: list[dict[str, Any]]) -> None:
        self._template = template
        self.conversation = conversation
        self.turns = turns
        self.text = template.apply(turns, conversation, prompt=False)
        self._headers: dict[int, str] = {}

    def spans(self, trained: Sequence[int]) -> list[tuple[int, int]]:
        """Where the model writes, turn by turn.

        Raises:
            ChatTemplateError: it cannot be seen.
        """
        found: dict[int, tuple[int, int]] = {}
        for index in trained:
            with suppress(_UnstableError):
                found[index] = self.span_by_prefix(index)
        if len(found) < len(trained):
            found = self.spans_by_markers(found)
        return [found[index] for index in trained]

    def span_by_prefix(self, index: int) -> tuple[int, int]:
        """A turn's trained span, if the template renders the turns before it, and it, as in the whole."""
        header = self.header(index)
        prompt = self.prefix(index, prompt=True)
        last = index + 1 == len(self.turns)
        upto = self.text if last else self.prefix(index + 1, prompt=False)
        if not header or not self.text.startswith(prompt) or not self.text.startswith(upto):
            raise _UnstableError
        answer = self.answer(index)
        at = self.text.rfind(answer, len(prompt), len(upto)) if answer else len(prompt)
        if at < 0:
            raise _UnstableError
        content_end = at + len(answer)
        return len(prompt), self._template.end_of_turn(self.text, len(prompt), content_end, len(upto))

    def prefix(self, count: int, *, prompt: bool) -> str:
        """Render of the first turns. Templates that refuse a beginning cannot be compared with it."""
        if count == 0:
            raise _UnstableError
        try:
            return self._template.apply(self.turns[:count], self.conversation, prompt=prompt)
        except ChatTemplateError as error:
            raise _UnstableError from error

    def header(self, index: int) -> str:
        """What the template writes to begin an assistant's turn after the first `index` turns."""
        if index not in self._headers:
            bare, prompted = self.prefix(index, prompt=False), self.prefix(index, prompt=True)
            if not prompted.startswith(bare):
                raise _UnstableError
            self._headers[index] = prompted[len(bare) :]
        return self._headers[index]

    def lacks_reasoning(self, index: int, span: tuple[int, int]) -> bool:
        """Whether the template left out reasoning within the turn's words."""
        reasoning = _END_OF_REASONING.match(self.turns[index]["content"])
        if reasoning is None:
            return False
        words = reasoning.group().partition("</think>")[0].strip().removeprefix("<think>").strip()
        return words not in self.text[slice(*span)]

    def is_open_ended(self, index: int, span: tuple[int, int]) -> bool:
        """Whether no mark ends the turn."""
        answer = self.answer(index)
        return bool(answer) and self.text[slice(*span)].rstrip().endswith(answer)

    def next_result(self, index: int) -> str:
        """What a tool answers to the turn."""
        following = self.turns[index + 1] if index + 1 < len(self.turns) else None
        return str(following["content"]).strip() if following and following["role"] in ("tool", "function") else ""

    def answer(self, index: int) -> str:
        """The turn's words without surrounding white space and without reasoning, which templates treat apart."""
        return _END_OF_REASONING.sub("", self.turns[index]["content"]).strip()

    def spans_by_markers(self, known: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """Spans of all assistant turns: known ones, and others found by replacing each turn's words by a marker.

        Raises:
            ChatTemplateError: the text around the markers does not occur in the whole render.
        """
        assistants = [index for index, turn in enumerate(self.turns) if turn["role"] == "assistant"]
        answers = self._locate([index for index in assistants if self.answer(index)])
        spans = dict(known)
        cursor = 0
        for index in assistants:
            ceiling = min((start for other, (start, _) in answers.items() if other > index), default=len(self.text))
            if index not in spans:
                if index in answers:
                    start, end = answers[index]
                    begin = self._behind_last_header(index, cursor, start)
                else:
                    begin = end = self._behind_first_header(index, cursor, ceiling)
                spans[index] = (begin, self._end_after(end, ceiling))
            cursor = spans[index][1]
        return spans

    def _end_after(self, end: int, ceiling: int) -> int:
        """Behind the first special token after an answer, else behind the white space that follows it."""
        behind = self._template.first_special(self.text, end, ceiling)
        if behind is not None:
            return behind
        rest = self.text[end:ceiling]
        return end + len(rest) - len(rest.lstrip())

    def _behind_last_header(self, index: int, floor: int, content_start: int) -> int:
        """Where the model begins to write a turn whose words stand at `content_start`."""
        header = self._header_or_none(index)
        at = self.text.rfind(header, floor, content_start) if header else -1
        return at + len(header) if header and at >= 0 else content_start

    def _behind_first_header(self, index: int, floor: int, ceiling: int) -> int:
        """Where the model begins to write a turn without words. Prompts may open reasoning that such a turn lacks."""
        header = self._header_or_none(index) or ""
        for start in (header, header.partition("<think>")[0]):
            at = self.text.find(start, floor, ceiling) if start else -1
            if at >= 0:
                return at + len(start)
        raise self.fault(index, "where the turn begins cannot be seen")

    def _header_or_none(self, index: int) -> str | None:
        try:
            return self.header(index)
        except _UnstableError:
            return None

    def _locate(self, marked: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Where each marked turn's answer stands in the whole render."""
        markers = {index: f"\u2039turn {index} of {self.conversation.line}\u203a" for index in marked}
        turns = list(self.turns)
        for index, marker in markers.items():
            content = turns[index]["content"]
            reasoning = _END_OF_REASONING.match(content)
            turns[index] = turns[index] | {"content": (reasoning.group() if reasoning else "") + marker}
        rest = self._template.apply(turns, self.conversation, prompt=False)
        position = 0
        found: dict[int, tuple[int, int]] = {}
        for index, marker in markers.items():
            between, marker_seen, rest = rest.partition(marker)
            answer = self.answer(index)
            if not marker_seen:
                raise self.fault(index, "the template leaves the turn's text out")
            if not self.text.startswith(between.rstrip(), position):
                raise self.fault(index, "the text before the turn depends on what the turn says")
            start = self.text.find(answer, position + len(between.rstrip()))
            if start < 0 or self.text[position + len(between.rstrip()) : start].strip():
                raise self.fault(index, "the template changes the turn's text")
            found[index] = (start, start + len(answer))
            position = start + len(answer)
            rest = self._realign(rest, position)
        if self.text[position:] != rest:
            raise self.fault(marked[-1] if marked else 0, "the text behind the turn depends on what the turn says")
        return found

    def _realign(self, rest: str, position: int) -> str:
        """Put back the white space that ends an answer and that its marker lacks."""
        tail = self.text[position:]
        missing = tail[: len(tail) - len(tail.lstrip())]
        kept = rest[: len(rest) - len(rest.lstrip())]
        return missing.removesuffix(kept) + rest if missing.endswith(kept) else rest

    def fault(self, index: int, reason: str) -> ChatTemplateError:
        """What is wrong with one turn."""
        return ChatTemplateError(
            f"Line {self.conversation.line}, messages[{index}]: {reason}, so it cannot be seen which tokens the "
            "assistant wrote."
        )


def check_spans(view: ConversationView, trained: Sequence[int], spans: Sequence[tuple[int, int]]) -> None:
    """Refuse spans that overlap, or lack what the assistant says or calls."""
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
        result = view.next_result(index)
        if result and result in text and result not in str(view.turns[index]):
            raise view.fault(index, "the chat template writes a tool's result into it")


def _called(turn: dict[str, Any]) -> Iterator[str]:
    """Names of called functions, and the arguments that every template writes as they are."""
    for call in turn.get("tool_calls", ()):
        function = call.get("function", call)
        yield str(function.get("name", ""))
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            yield from (value for value in arguments.values() if isinstance(value, str) and value.isalnum())
