"""Exactly the assistant's tokens and its end of turn carry loss, whatever the chat template does."""

import re
from importlib.resources import files

import pytest
from tokenizers import AddedToken

from tunesmith.data.formats import PromptCompletion, Text, read_messages
from tunesmith.spec.errors import ChatTemplateError
from tunesmith.training.model import load_tokenizer
from tunesmith.training.text import Encoder

CHATML = """{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"""
GENERATION = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{% if m.role == "assistant" %}{% generation %}{{ m.content }}{% endgeneration %}
{%- else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"""
NO_MARK = """{%- for m in messages -%}{{ m.role | upper }}: {{ m.content }}\n{% endfor -%}
{%- if add_generation_prompt -%}ASSISTANT: {% endif -%}"""
NO_PROMPT = """{%- for m in messages -%}[{{ m.role }}] {{ m.content }}<|im_end|>\n{% endfor -%}"""

CALL = {"id": "callabcd1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "c"}}},
    },
}


def _of_trl(name):
    return files("trl").joinpath("chat_templates", f"{name}.jinja").read_text()


def _tokenizer(folder, template, eos="<|im_end|>"):
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    marks = sorted(set(re.findall(r"<\|?[a-zA-Z_]+\|?>", template)))
    words = ("think", "tool", "function", "parameter", "IMPORTANT")
    special = [AddedToken(mark, special=True) for mark in marks if not any(word in mark for word in words)]
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token = "<|endoftext|>", eos
    return tokenizer


def _conversation(*turns, **more):
    messages = [{"role": role, "content": content, **dict(*rest)} for role, content, *rest in turns]
    return read_messages({"messages": messages, **more}, line=3)


def _encoder(folder, template, **tokenizer):
    return Encoder(_tokenizer(folder, template, **tokenizer), 10**6)


def _findings(folder, template, conversation):
    encoder = _encoder(folder, template)
    encoder.encode([conversation])
    return set(encoder.findings)


def _trained(folder, template, conversation, **tokenizer):
    """Trained text, as the tokens say it, piece by piece."""
    encoder = _encoder(folder, template, **tokenizer)
    shown = encoder.show(encoder.encode([conversation])[0], 10_000)
    return re.findall("⟦(.*?)⟧", shown, re.DOTALL)


TWO_TURNS = (("user", "Hi."), ("assistant", " Hello! \n"), ("user", "Bye."), ("assistant", "See you."))
THOUGHTS = (
    ("user", "Hi."),
    ("assistant", "<think>\nA\n</think>\n\nHello!"),
    ("user", "Bye."),
    ("assistant", "<think>\nB\n</think>\n\nSee you."),
)


@pytest.mark.parametrize(
    ("template", "eos", "expected"),
    [
        (CHATML, "<|im_end|>", [" Hello! \n<|im_end|>", "See you.<|im_end|>"]),
        (GENERATION, "<|im_end|>", [" Hello! \n<|im_end|>", "See you.<|im_end|>"]),
        (_of_trl("llama3"), "<|eot_id|>", ["Hello!<|eot_id|>", "See you.<|eot_id|>"]),
        (_of_trl("llama3_training"), "<|eot_id|>", ["Hello!<|eot_id|>", "See you.<|eot_id|>"]),
        (_of_trl("gemma"), "<end_of_turn>", ["Hello!<end_of_turn>", "See you.<end_of_turn>"]),
        (_of_trl("gemma3"), "<end_of_turn>", ["Hello!<end_of_turn>", "See you.<end_of_turn>"]),
        (_of_trl("qwen2_5"), "<|im_end|>", [" Hello! \n<|im_end|>", "See you.<|im_end|>"]),
        (_of_trl("qwen3"), "<|im_end|>", [" Hello! \n<|im_end|>", "<think>\n\n</think>\n\nSee you.<|im_end|>"]),
        (_of_trl("phi3"), "<|end|>", [" Hello! \n<|end|>", "See you.<|end|>"]),
        (NO_PROMPT, "<|im_end|>", [" Hello! \n<|im_end|>", "See you.<|im_end|>"]),
    ],
    ids=[
        "chatml",
        "generation",
        "llama3",
        "llama3-generation",
        "gemma",
        "gemma3",
        "qwen2.5",
        "qwen3",
        "phi3",
        "no-prompt",
    ],
)
def test_each_turn_is_trained_with_its_end_and_nothing_else(tiny_model, template, eos, expected):
    assert _trained(tiny_model, template, _conversation(*TWO_TURNS), eos=eos) == expected


def test_a_template_that_strips_reasoning_from_earlier_turns_is_followed(tiny_model):
    template = _of_trl("qwen3")
    expected = ["Hello!<|im_end|>", "<think>\nB\n</think>\n\nSee you.<|im_end|>"]
    assert _trained(tiny_model, template, _conversation(*THOUGHTS)) == expected
    assert _findings(tiny_model, template, _conversation(*THOUGHTS)) == {"reasoning_left_out"}


@pytest.mark.parametrize(
    ("name", "eos"),
    [
        ("qwen2_5", "<|im_end|>"),
        ("qwen3", "<|im_end|>"),
        ("llama3_1", "<|eot_id|>"),
    ],
)
def test_calls_are_trained_and_results_are_not(tiny_model, name, eos):
    turns = [
        ("user", "Weather?"),
        ("assistant", None, {"tool_calls": [CALL]}),
        ("tool", "sunny", {"tool_call_id": "callabcd1", "name": "weather"}),
        ("assistant", "Take a hat."),
        ("user", "Thanks."),
        ("assistant", "Bye."),
    ]
    call, hat, bye = _trained(tiny_model, _of_trl(name), _conversation(*turns, tools=[TOOL]), eos=eos)
    assert "weather" in call
    assert "Rome" in call
    assert "sunny" not in call + hat + bye
    assert ("Take a hat." in hat, "Bye." in bye) == (True, True)


def test_turns_of_weight_zero_are_not_trained(tiny_model):
    turns = [
        ("system", "Be kind."),
        ("user", "a"),
        ("assistant", "b", {"weight": 0}),
        ("user", "c"),
        ("assistant", "d"),
    ]
    assert _trained(tiny_model, CHATML, _conversation(*turns)) == ["d<|im_end|>"]


def test_developers_speak_as_the_system_where_the_template_knows_none(tiny_model):
    encoder = _encoder(tiny_model, CHATML)
    (row,) = encoder.encode([_conversation(("developer", "Be kind."), *TWO_TURNS)])
    assert encoder.show(row, 99).startswith("<|im_start|>system\nBe kind.")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHATML.replace("{{ m.content }}", "{{ m.content | upper }}"), "messages\\[1\\]"),
        (CHATML.replace("{{ m.content }}", "{{ raise_exception('no') }}"), "refuses it: no"),
        (CHATML.replace("{{ m.content }}", "words"), "messages\\[1\\]"),
        (CHATML.replace("{{ m.content }}", "{{ m.content[:3] }}"), "messages\\[1\\]"),
        ("{{ messages[-1].content | length }}" + CHATML, "depends on what the turn says"),
        (NO_MARK, "writes ' \\\\n\\\\n' behind the assistant's words.*stops at '<\\|im_end\\|>'"),
        (CHATML.replace("<|im_end|>", "<|other|>"), "writes '.*<\\|other\\|>.*stops at '<\\|im_end\\|>'"),
        (CHATML.replace("<|im_end|>", " Be safe!<|im_end|>"), "writes 'Be safe!' between the turn's text and the mark"),
    ],
    ids=["changed", "refused", "left-out", "cut", "unsteady", "no-mark", "other-mark", "own-words"],
)
def test_a_template_that_hides_the_answer_or_its_end_is_refused_with_the_line(tiny_model, template, words):
    with pytest.raises(ChatTemplateError, match=f"Line 3.*{words}"):
        _trained(tiny_model, template, _conversation(*TWO_TURNS))


def test_a_prompt_for_another_answer_behind_the_last_turn_is_told_and_not_trained(tiny_model):
    template = CHATML.replace("if add_generation_prompt", "if true")
    assert _trained(tiny_model, template, _conversation(*TWO_TURNS)) == [" Hello! \n<|im_end|>", "See you.<|im_end|>"]
    assert _findings(tiny_model, template, _conversation(*TWO_TURNS)) == {"trailing_text"}


@pytest.mark.parametrize(("answer", "other"), [("d", "e"), ("start", "im"), ("\n|", "user")])
def test_words_that_are_parts_of_marks_are_found_where_they_stand(tiny_model, answer, other):
    turns = (("user", other), ("assistant", answer), ("user", other), ("assistant", answer))
    assert _trained(tiny_model, CHATML, _conversation(*turns)) == [f"{answer}<|im_end|>"] * 2


def test_the_next_turns_mark_ends_a_turn_where_the_model_stops_at_it(tiny_model):
    template = """{%- for m in messages -%}<|im_end|>{{ m.role }}: {{ m.content }}{% endfor -%}
    {%- if add_generation_prompt -%}<|im_end|>assistant: {% endif -%}"""
    assert _trained(tiny_model, template, _conversation(*TWO_TURNS)) == [" Hello! \n<|im_end|>", "See you.<|im_end|>"]
    assert _findings(tiny_model, template, _conversation(*TWO_TURNS)) == {"end_appended"}


def test_calls_that_the_template_does_not_show_are_refused(tiny_model):
    with pytest.raises(ChatTemplateError, match="'weather'"):
        _trained(tiny_model, CHATML, _conversation(("user", "a"), ("assistant", "b", {"tool_calls": [CALL]})))


def test_a_call_that_ends_only_behind_its_result_is_refused(tiny_model):
    template = """{%- for m in messages -%}
    {%- if m.role == "tool" -%}{{ m.content }}<|im_end|>{{ "\n" }}
    {%- elif m.tool_calls -%}<|im_start|>assistant{{ "\n" }}{{ m.tool_calls }}
    {%- else -%}<|im_start|>{{ m.role }}{{ "\n" }}{{ m.content }}<|im_end|>{{ "\n" }}{%- endif -%}
    {%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\n" }}{% endif -%}"""
    turns = [
        ("user", "Weather?"),
        ("assistant", None, {"tool_calls": [CALL]}),
        ("tool", "sunny", {"tool_call_id": "callabcd1"}),
        ("assistant", "Hat."),
    ]
    with pytest.raises(ChatTemplateError, match=r"messages\[1\]"):
        _trained(tiny_model, template, _conversation(*turns))


def test_a_header_that_an_earlier_text_contains_does_not_make_the_users_words_trained(tiny_model):
    template = (
        "{%- for m in messages -%}{% if m.role == 'system' %}Answer behind <go> only.{% endif %}{{ m.content }}"
        "<|im_end|>{% endfor -%}{%- if add_generation_prompt -%}<go>{% endif -%}"
    )
    turns = (("system", "Be kind."), ("user", "Hi there."), ("assistant", "Hello!"))
    with pytest.raises(ChatTemplateError, match="words of messages\\[1\\] into it"):
        _trained(tiny_model, template, _conversation(*turns))


def test_a_model_without_template_is_refused(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="no chat template"):
        Encoder(tokenizer, 384).encode([_conversation(*TWO_TURNS)])


def test_only_the_completion_and_the_end_are_trained(tiny_model):
    encoder = Encoder(load_tokenizer(tiny_model), 384)
    (row,) = encoder.encode([PromptCompletion(1, "Question: why?", " Because.")])
    assert encoder.show(row, 99) == "Question: why?⟦ Because.<|im_end|>⟧"


def test_a_text_is_trained_whole_but_for_its_first_token(tiny_model):
    encoder = Encoder(load_tokenizer(tiny_model), 384)
    (row,) = encoder.encode([Text(1, "What is it?<|im_end|>")])
    assert row.trained.tolist() == [False] + [True] * (len(row.ids) - 1)
    assert encoder.show(row, 99).endswith("<|im_end|>⟧")
    assert encoder.show(row, 99).count("<|im_end|>") == 1


def test_the_beginning_and_the_end_are_never_doubled(tiny_model):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_model)
    tokenizer.bos_token = "<|endoftext|>"
    tokens = [("<|endoftext|>", 0), ("<|im_end|>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=tokens
    )
    encoder = Encoder(tokenizer, 384)
    plain, text = encoder.encode([PromptCompletion(1, "<|endoftext|>a", "b<|im_end|>"), Text(2, "a")])
    assert plain.ids.tolist()[0::3] == [0, 2]
    assert plain.trained.tolist() == [False, False, True, True]
    assert text.trained.tolist() == [False, True, True]
    (chat,) = encoder.encode([_conversation(*TWO_TURNS)])
    assert chat.ids.tolist().count(0) == 0
