"""One tokenizer's chat template, and the marks by which it ends a turn."""

from collections.abc import Sequence
from typing import Any

from tunesmith.data.formats import Conversation
from tunesmith.spec.errors import ChatTemplateError


class ChatTemplate:
    """Renders turns as text.

    Raises:
        ChatTemplateError: on construction, if the tokenizer has no template.
    """

    def __init__(self, tokenizer: Any) -> None:
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
        specials = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        specials.update(tokenizer.all_special_tokens)
        self._specials = tuple(sorted(specials, key=len, reverse=True))

    def apply(self, turns: Sequence[dict[str, Any]], conversation: Conversation, *, prompt: bool) -> str:
        """Render turns; `prompt` adds the beginning of an assistant's answer.

        Raises:
            ChatTemplateError: the template refuses the turns.
        """
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                turns,
                tools=list(conversation.tools) if conversation.tools else None,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except Exception as error:
            raise ChatTemplateError(
                f"Line {conversation.line}: the model's chat template refuses it: {error}"
            ) from error
        return rendered

    def end_of_turn(self, text: str, start: int, content_end: int, end: int) -> int:
        """Where training ends in a turn that spans `start` to `end`: behind its end-of-turn mark.

        White space behind the mark is the template's, not the model's. Where white space is all that ends a turn, it
        is the mark.
        """
        stripped = len(text[start:end].rstrip()) + start
        return stripped if text.endswith(self._specials, start, stripped) or stripped > content_end else end

    def first_special(self, text: str, start: int, end: int) -> int | None:
        """Position behind the first special token in a range, if there is one."""
        found = [at + len(token) for token in self._specials if (at := text.find(token, start, end)) >= 0]
        return min(found, default=None)
