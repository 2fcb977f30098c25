"""One tokenizer's chat template, and the marks by which it ends a turn."""

from collections.abc import Collection, Sequence
from typing import Any

from tunesmith.data.formats import Conversation
from tunesmith.spec.errors import ChatTemplateError


def wants_parts(tokenizer: Any) -> bool:
    """Whether a template shows text only where it comes as a list of parts, as those of models that see do."""
    probe = "\u2039text\u203a"
    for content in (probe, [{"type": "text", "text": probe}]):
        try:
            rendered = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        except Exception:  # noqa: BLE001 - a template that refuses these turns does not tell
            continue
        if probe in rendered:
            return content is not probe
    return False


def in_parts(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns with their texts as lists of parts."""
    return [
        turn | {"content": [{"type": "text", "text": turn["content"]}]} if isinstance(turn["content"], str) else turn
        for turn in turns
    ]


class ChatTemplate:
    """Renders turns as text.

    Raises:
        ChatTemplateError: on construction, if the tokenizer has no template.
    """

    def __init__(self, tokenizer: Any, stops: Collection[int]) -> None:
        source = tokenizer.chat_template
        if isinstance(source, dict):
            source = source.get("default")
        if not source:
            raise ChatTemplateError(
                "The model has no chat template, so rows with `messages` cannot be rendered.",
                hint="Use an instruction-tuned model, or rows with `prompt` and `completion`.",
            )
        self.source: str = source
        self._tokenizer = tokenizer
        self._wants_parts = wants_parts(tokenizer)
        specials = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        specials.update(tokenizer.all_special_tokens)
        self._specials = tuple(specials)
        self.stops: tuple[str, ...] = tuple(filter(None, tokenizer.convert_ids_to_tokens(sorted(stops))))
        """What the model can write to end its answer."""

        self.closing: str = tokenizer.eos_token or ""
        """What some templates write behind a conversation that asks for no answer."""

    def apply(self, turns: Sequence[dict[str, Any]], conversation: Conversation, *, prompt: bool) -> str:
        """Render turns; `prompt` adds the beginning of an assistant's answer.

        Raises:
            ChatTemplateError: the template refuses the turns.
        """
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                in_parts(turns) if self._wants_parts else turns,
                tools=list(conversation.tools) if conversation.tools else None,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except Exception as error:
            raise ChatTemplateError(
                f"Line {conversation.line}: the model's chat template refuses it: {error}",
                hint="Put the system's text into the first turn of the user."
                if "system" in str(error).lower() and turns[0]["role"] == "system"
                else "Change the row so that the template takes it.",
            ) from error
        return rendered

    def behind_first_stop(self, text: str, start: int, end: int) -> int | None:
        """Position behind the first mark in a range that ends the model's answer, if there is one."""
        found = [at + len(stop) for stop in self.stops if (at := text.find(stop, start, end)) >= 0]
        return min(found, default=None)

    def stop_at(self, text: str, position: int) -> str | None:
        """The mark at a position that ends the model's answer, if there is one."""
        return next((stop for stop in self.stops if text.startswith(stop, position)), None)

    def first_mark(self, text: str, start: int, end: int) -> int:
        """Where the first special token of a range begins, else its start."""
        return min((at for each in self._specials if (at := text.find(each, start, end)) >= 0), default=start)

    def without_marks(self, text: str) -> str:
        """A text without its special tokens and the marks that end the model's answer."""
        for mark in (*self._specials, *self.stops):
            text = text.replace(mark, "")
        return text
