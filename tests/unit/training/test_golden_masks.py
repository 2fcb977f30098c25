"""What is trained with the chat templates of published models equals files that were checked by hand."""

import re
from pathlib import Path

import pytest

from chat_templates import TEMPLATES, ModelTemplate, smollm2_tokenizer
from tunesmith.data.formats import read_messages
from tunesmith.spec.errors import ChatTemplateError
from tunesmith.training.text import Encoder

_GOLDEN = Path(__file__).parents[2] / "golden" / "masks"

# Some templates tell the model what day it is.
_DATE = re.compile(r"((?:Current date|Today's Date): )[^.\n]+")
_CALL = {"id": "callabcd1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}},
    },
}


def _turn(role, content, **more):
    return {"role": role, "content": content, **more}


_ROWS = {
    "a system text and two turns": [
        _turn("system", "Be kind."),
        _turn("user", "Hi."),
        _turn("assistant", "Hello!"),
        _turn("user", "Bye."),
        _turn("assistant", "See you."),
    ],
    "weight 0, and white space around the answer": [
        _turn("user", "One?"),
        _turn("assistant", "Wrong.", weight=0),
        _turn("user", "Two?"),
        _turn("assistant", " Right. \n"),
    ],
    "reasoning in both turns": [
        _turn("user", "Hi."),
        _turn("assistant", "<think>\nGreet.\n</think>\n\nHello!"),
        _turn("user", "Bye."),
        _turn("assistant", "<think>\nPart.\n</think>\n\nSee you."),
    ],
    "reasoning in a field of its own": [
        _turn("user", "Hi."),
        _turn("assistant", "Hello!", reasoning_content="Greet.", thinking="Greet."),
    ],
    "a call and its result": [
        _turn("user", "Weather?"),
        _turn("assistant", None, tool_calls=[_CALL]),
        _turn("tool", "sunny", tool_call_id="callabcd1", name="weather"),
        _turn("assistant", "Take a hat."),
    ],
}


def _masks(tokenizer, stops):
    """All rows as the model sees them, trained tokens between `⟦` and `⟧`."""
    parts = []
    for title, messages in _ROWS.items():
        row = {"messages": messages} | ({"tools": [_TOOL]} if "call" in title else {})
        encoder = Encoder(tokenizer, 10**6, stops)
        try:
            (encoded,) = encoder.encode([read_messages(row, line=1)])
        except ChatTemplateError as error:
            parts.append(f"== {title}: refused ==\n{error.message}\n")
            continue
        shown = _DATE.sub(r"\1DATE", encoder.show(encoded, 10**6))
        found = "".join(f"; {finding}" for finding in sorted(encoder.findings))
        parts.append(f"== {title}{found} ==\n{shown}\n")
    return "\n".join(parts)


def _golden(name):
    """A checked file without the remarks at its head."""
    text = (_GOLDEN / f"{name}.txt").read_text()
    return text[text.index("== ") :]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_masks_of_a_published_template_are_those_checked_by_hand(tiny_model, name):
    template: ModelTemplate = TEMPLATES[name]
    tokenizer = template.tokenizer(tiny_model)
    assert _masks(tokenizer, template.stop_ids(tokenizer)) == _golden(name)


@pytest.mark.slow
def test_the_masks_of_smollm2_with_its_own_tokenizer_are_those_checked_by_hand():
    tokenizer = smollm2_tokenizer()
    assert _masks(tokenizer, {tokenizer.eos_token_id}) == _golden("smollm2")


def test_every_checked_file_belongs_to_a_template():
    assert {path.stem for path in _GOLDEN.glob("*.txt")} == {*TEMPLATES, "smollm2"}
