"""Which characters of a rendered conversation the assistant wrote.

Where a turn starts and ends in the whole render is found by comparing it with renders of the conversation's beginnings.
Some templates render a turn differently once others follow it (they strip its reasoning, say). For those, the
assistant's words are replaced by markers, and the text between the markers shows what the template writes around them.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunesmith.data.formats import Conversation
from tunesmith.spec.errors import ChatTemplateError
from tunesmith.spec.receipt import Finding
from tunesmith.training.chat_template import ChatTemplate

END_OF_REASONING = re.compile(r"^.*</think>\s*", re.DOTALL)
"""Reasoning that a turn's content begins with."""


class UnstableError(Exception):
    """The template renders the beginning of a conversation differently from the whole."""


class ConversationView:
    """One conversation beside its whole render."""

    def __init__(self, template: ChatTemplate, conversation: Conversation, turns: list[dict[str, Any]]) -> None:
        self.template = template
        self.conversation = conversation
        self.turns = turns
        self.text = template.apply(turns, conversation, prompt=False)
        self._begins: dict[int, str] = {}
        self.marks: set[Finding] = set()
        """What is particular about the marks that end its turns."""

        self._appended = ""

    def spans(self, trained: Sequence[int]) -> list[tuple[int, int]]:
        """Where the model writes, turn by turn. A mark that ends the last turn may be appended to the text.

        Raises:
            ChatTemplateError: it cannot be seen, or nothing makes the model stop.
        """
        found: dict[int, tuple[int, int]] = {}
        for index in trained:
            with suppress(UnstableError):
                found[index] = self.span_by_prefix(index)
        if len(found) < len(trained):
            found = self.spans_by_markers(found)
        self.text += self._appended
        return [found[index] for index in trained]

    def span_by_prefix(self, index: int) -> tuple[int, int]:
        """A turn's trained span, if the template renders the turns before it, and it, as in the whole."""
        begin = self.begin(index)
        last = index + 1 == len(self.turns)
        upto = self.text if last else self._open(self.prefix(index + 1, prompt=False))
        if not self.text.startswith(begin) or not self.text.startswith(upto):
            raise UnstableError
        answer = self.answer(index)
        at = self._words_at(index, len(begin), len(upto)) if answer else len(begin)
        return len(begin), self._end(index, at + len(answer), len(upto))

    def _words_at(self, index: int, start: int, end: int) -> int:
        """Where a turn's words stand in a range of the text. Short ones may be part of a mark as well."""
        answer = self.answer(index)
        if self.text.count(answer, start, end) == 1:
            return self.text.index(answer, start, end)
        before, marker, _ = self._marked_prefix(index).partition(self._marker(index))
        position = len(before.rstrip())
        at = self.text.find(answer, position, end)
        if not marker or not self.text.startswith(before.rstrip()) or at < 0 or self.text[position:at].strip():
            raise UnstableError
        return at

    def _marker(self, index: int) -> str:
        return f"\u2039turn {index} of {self.conversation.line}\u203a"

    def _with_marker(self, index: int) -> dict[str, Any]:
        """A turn with a marker in the place of its words."""
        reasoning = END_OF_REASONING.match(self.turns[index]["content"])
        return self.turns[index] | {"content": (reasoning.group() if reasoning else "") + self._marker(index)}

    def _marked_prefix(self, index: int) -> str:
        """Render of the turns up to one whose words are a marker."""
        try:
            turns = [*self.turns[:index], self._with_marker(index)]
            return self.template.apply(turns, self.conversation, prompt=False)
        except ChatTemplateError as error:
            raise UnstableError from error

    def prefix(self, count: int, *, prompt: bool) -> str:
        """Render of the first turns. Templates that refuse a beginning cannot be compared with it."""
        if count == 0:
            raise UnstableError
        try:
            return self.template.apply(self.turns[:count], self.conversation, prompt=prompt)
        except ChatTemplateError as error:
            raise UnstableError from error

    def begin(self, index: int) -> str:
        """The text behind which the model writes an assistant's turn after the first `index` turns.

        It ends with what the template writes to prompt an answer. Where it writes nothing for that, it ends before the
        answer's words; white space before these is then the model's, as nobody else writes it.
        """
        if index not in self._begins:
            bare, prompted = self._open(self.prefix(index, prompt=False)), self.prefix(index, prompt=True)
            if not prompted.startswith(bare):
                raise UnstableError
            self._begins[index] = prompted if prompted != bare else bare + self._unprompted_header(index, bare)
        return self._begins[index]

    def _unprompted_header(self, index: int, bare: str) -> str:
        marker = self._marker(index)
        turns = [*self.turns[:index], {"role": "assistant", "content": marker}]
        try:
            probe = self.template.apply(turns, self.conversation, prompt=False)
        except ChatTemplateError as error:
            raise UnstableError from error
        header, found, _ = probe.removeprefix(bare).partition(marker)
        if not probe.startswith(bare) or not found:
            raise UnstableError
        return header if header.strip() else ""

    def _open(self, rendered: str) -> str:
        """A render without what the template writes only behind a conversation that goes on no further."""
        closing = self.template.closing
        return rendered.removesuffix(closing) if closing and not self.text.startswith(rendered) else rendered

    def _end(self, index: int, words_end: int, limit: int) -> int:
        """Where training ends in a turn whose words end at `words_end`, and which ends at or before `limit`.

        That is behind the first mark that makes the model stop. It may be the beginning of the next turn.

        Raises:
            ChatTemplateError: there is none.
        """
        behind = self.template.behind_first_stop(self.text, words_end, limit)
        if behind is not None:
            self._require_nothing_between(index, self.text[words_end:behind])
            return behind
        following = self.template.stop_at(self.text, limit)
        if following is not None:
            return limit + len(following)
        if index + 1 < len(self.turns):
            if self._stops_as_last(index):
                self.marks.add("mark_untrained")
                return self.template.first_mark(self.text, words_end, limit)
        elif self._append_mark(words_end):
            return len(self.text) + len(self._appended)
        raise self._endless(index, words_end, limit)

    def _require_nothing_between(self, index: int, tail: str) -> None:
        turn = self.turns[index]
        calls = turn.get("tool_calls") or turn.get("function_call")
        foreign = "" if calls else self.template.without_marks(tail).strip()
        if foreign:
            raise self.fault(
                index, f"the template writes {foreign[:60]!r} between the turn's text and the mark that ends it"
            )

    def _stops_as_last(self, index: int) -> bool:
        """Whether the turn ends with a mark that makes the model stop, as long as no turn follows."""
        try:
            _, marker, tail = self._marked_prefix(index).partition(self._marker(index))
        except UnstableError:
            return False
        return bool(marker) and self.template.behind_first_stop(tail, 0, len(tail)) is not None

    def _append_mark(self, words_end: int) -> bool:
        """Put the mark behind the last turn by which the template would begin the next one, if that is one."""
        last = len(self.turns) - 1
        if self.text[words_end:].strip():
            return False
        turns = [*self.turns[:last], self._with_marker(last), {"role": "user", "content": "?"}]
        try:
            probe = self.template.apply(turns, self.conversation, prompt=False)
        except ChatTemplateError:
            return False
        mark = self.template.stop_at(probe.partition(self._marker(last))[2].lstrip(), 0)
        if mark is None:
            return False
        self._appended = mark
        self.marks.add("end_appended")
        return True

    def _endless(self, index: int, words_end: int, limit: int) -> ChatTemplateError:
        written = self.text[words_end:limit]
        stops = ", ".join(map(repr, self.template.stops)) or "nothing"
        return ChatTemplateError(
            f"Line {self.conversation.line}, messages[{index}]: the chat template writes {written[-40:]!r} behind the "
            f"assistant's words, and the model stops at {stops}, so it would not learn when to stop.",
            hint="Use a model whose chat template ends the assistant's turns with one of its `eos_token_id`, or add "
            "the mark's token to `eos_token_id` in the model's generation_config.json.",
        )

    def answer(self, index: int) -> str:
        """The turn's words without surrounding white space and without reasoning, which templates treat apart."""
        return END_OF_REASONING.sub("", self.turns[index]["content"]).strip()

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
                    start, words_end = answers[index]
                    begin = self._behind_last_header(index, cursor, start)
                else:
                    begin = words_end = self._behind_first_header(index, cursor, ceiling)
                trained = self.conversation.messages[index].trained
                spans[index] = (begin, self._end(index, words_end, ceiling) if trained else words_end)
            cursor = spans[index][1]
        return spans

    def _behind_last_header(self, index: int, floor: int, words_start: int) -> int:
        """Where the model begins to write a turn whose words stand at `words_start`."""
        header = self._header_or_none(index)
        at = self.text.rfind(header, floor, words_start) if header else -1
        if header and at >= 0:
            return at + len(header)
        # The row's own reasoning and white space, if the template leaves them before the words.
        lead = self.turns[index]["content"].rstrip().removesuffix(self.answer(index))
        shown = next((each for each in (lead, lead.lstrip()) if self.text.endswith(each, floor, words_start)), "")
        return words_start - len(shown)

    def _behind_first_header(self, index: int, floor: int, ceiling: int) -> int:
        """Where the model begins to write a turn without words. Prompts may open reasoning that such a turn lacks."""
        header = self._header_or_none(index) or ""
        found = [
            (at, at + len(start))
            for start in (header.partition("<think>")[0], header)
            if start and (at := self.text.find(start, floor, ceiling)) >= 0
        ]
        if found:
            first = min(at for at, _ in found)
            return max(behind for at, behind in found if at == first)
        raise self.fault(index, "where the turn begins cannot be seen")

    def _header_or_none(self, index: int) -> str | None:
        """What the template writes between the turns before and the words of an assistant's turn."""
        try:
            return self.begin(index).removeprefix(self._open(self.prefix(index, prompt=False)))
        except UnstableError:
            return None

    def _locate(self, marked: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Where each marked turn's answer stands in the whole render."""
        markers = {index: self._marker(index) for index in marked}
        turns = [self._with_marker(index) if index in markers else turn for index, turn in enumerate(self.turns)]
        rest = self.template.apply(turns, self.conversation, prompt=False)
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
            "assistant wrote.",
            hint="Use a model whose chat template shows this turn as it is, or rows with `prompt` and `completion`.",
        )
