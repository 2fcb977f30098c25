"""Conversations as text, with the spans that are trained, for any chat template."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tunesmith.data.examples import Conversation, Image, Message
from tunesmith.spec.errors import ChatTemplateError
from tunesmith.spec.receipt import Finding
from tunesmith.training.chat_template import ChatTemplate
from tunesmith.training.turn_checks import check_spans, findings
from tunesmith.training.turn_spans import ConversationView


@dataclass(frozen=True)
class Rendered:
    """A conversation as text."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """Half-open character ranges that carry loss, ascending and apart from each other."""

    findings: frozenset[Finding]
    """What the template does that its user may not expect."""


class ChatRenderer:
    """Renders conversations with one tokenizer's chat template.

    `stops` are the tokens that make the model's answer end.

    Raises:
        ChatTemplateError: on construction, if the tokenizer has no template.
    """

    def __init__(self, tokenizer: Any, stops: Collection[int]) -> None:
        self._template = ChatTemplate(tokenizer, stops)
        source = self._template.source
        self._knows_developer = "developer" in source
        self._knows_function = "'function'" in source or '"function"' in source

    def render(self, conversation: Conversation) -> Rendered:
        """The conversation's text and its trained spans.

        Raises:
            ChatTemplateError: the template fails, it cannot be seen which characters the assistant wrote, or nothing
                behind them makes the model stop.
        """
        trained = [index for index, message in enumerate(conversation.messages) if message.trained]
        view = self._view(conversation)
        spans = view.spans(trained)
        check_spans(view, trained, spans)
        found = frozenset(findings(view, trained, spans)) if trained else frozenset()
        return Rendered(view.text, tuple(spans), found)

    def _view(self, conversation: Conversation) -> ConversationView:
        """Calls' arguments are given as objects, which most templates write as JSON, else as the text they came as."""
        turns = [self._turn(message) for message in conversation.messages]
        decoded = [_with_decoded_arguments(turn) for turn in turns]
        try:
            return ConversationView(self._template, conversation, decoded)
        except ChatTemplateError:
            if decoded == turns:
                raise
            return ConversationView(self._template, conversation, turns)

    def _turn(self, message: Message) -> dict[str, Any]:
        role = message.role
        if role == "developer" and not self._knows_developer:
            role = "system"
        if role == "function" and not self._knows_function:
            role = "tool"
        content = [_part(part) for part in message.parts] if message.parts else message.content or ""
        return {"role": role, "content": content, **message.fields}


def _part(part: str | Image) -> dict[str, str]:
    return {"type": "image"} if isinstance(part, Image) else {"type": "text", "text": part}


def _with_decoded_arguments(turn: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in turn:
        return turn
    return turn | {"tool_calls": [_decoded(call) for call in turn["tool_calls"]]}


def _decoded(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        decoded = json.loads(function["arguments"])
    except ValueError:
        return call
    if not isinstance(decoded, dict):
        return call
    return call | {"function": {**function, "arguments": decoded}}
