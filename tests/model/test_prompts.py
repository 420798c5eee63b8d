"""The prompt formats, on tokenizers of the kinds that differ: what stands where, and what the export renders."""

import pytest

from fedcmp.errors import UserError
from fedcmp.model.prompts import BehindImage, ChatFormat
from fedcmp.model.text_format import TextFormat
from tests.model.tiny_models import CHATML, DATED, GEMMA, LLAMA_2, byte_level, llm_folder, sentencepiece_like

ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def chatml(template=CHATML):
    return byte_level(end="<|endoftext|>", special=ENDS, template=template)


def rendered(tokenizer, chat, content):
    """What the exported template makes of a user's turn."""
    messages = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(
        messages, chat_template=chat.exported("\n"), tokenize=False, add_generation_prompt=True
    )


def test_text_behind_a_picture_has_no_space_of_a_texts_beginning():
    """Vicuna's tokenizer puts a space in front of a text, the processor's text does not begin behind a picture."""
    tokenizer = sentencepiece_like(legacy=False)
    assert tokenizer.convert_ids_to_tokens(tokenizer("\nWhat", add_special_tokens=False)["input_ids"])[0] == "▁"
    behind = BehindImage(tokenizer, "\n")
    assert tokenizer.convert_ids_to_tokens(behind.separator_ids) == ["<0x0A>"]
    assert tokenizer.convert_ids_to_tokens(behind("cat")["input_ids"]) == ["c", "a", "t"]
    assert "<image>" not in tokenizer.get_vocab()  # the tokenizer itself is left as it was


def test_a_chat_is_the_templates_own_text():
    tokenizer = chatml()
    chat = ChatFormat(tokenizer, "\n", "here", adds_bos=False)
    assert chat.before.endswith("<|im_end|>\n<|im_start|>user\n")
    assert chat.behind == "<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_ids_to_tokens(chat.end) == "<|im_end|>"  # what ends a turn, not the end of a text
    parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    expected = f"{chat.before}<image>\nWhat is it?{chat.behind}"
    assert rendered(tokenizer, chat, parts) == rendered(tokenizer, chat, "<image>\nWhat is it?") == expected


def test_a_llavas_template_takes_pictures_and_texts_apart():
    """As llava-hf's: it renders nothing of a text that is no list of parts."""
    template = (
        "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
        "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    tokenizer = sentencepiece_like(legacy=False, template=template)
    chat = ChatFormat(tokenizer, "\n", "here", adds_bos=True)
    assert (chat.before, chat.behind, chat.end) == ("USER: ", " ASSISTANT:", None)
    parts = [{"type": "image"}, {"type": "text", "text": "Why?"}]
    assert rendered(tokenizer, chat, parts) == "USER: <image>\nWhy? ASSISTANT:"


def test_an_exported_template_is_exported_again_unchanged():
    tokenizer = chatml(DATED + CHATML)
    once = ChatFormat(tokenizer, "\n", "here", adds_bos=True).exported("\n")
    tokenizer.chat_template = once
    again = ChatFormat(tokenizer, "\n", "here", adds_bos=True)
    assert again.exported("\n") == once
    assert again.before.startswith("Today is 01 Jan 2025.\n")


def test_there_is_one_bos():
    """Where the tokenizer adds it, the template does not, here and in the export."""
    tokenizer = sentencepiece_like(legacy=False, template=LLAMA_2)
    chat = ChatFormat(tokenizer, "\n", "here", adds_bos=True)
    assert (chat.before, chat.behind) == ("[INST] ", " [/INST]")
    assert rendered(tokenizer, chat, [{"type": "image"}, {"type": "text", "text": "Hi"}]).startswith(
        "[INST] <image>\nH"
    )
    assert tokenizer.convert_ids_to_tokens(chat.end) == "</s>"
    without = ChatFormat(tokenizer, "\n", "here", adds_bos=False)
    assert without.before == "<s>[INST] "


def test_the_format_does_not_depend_on_the_day():
    tokenizer = chatml(DATED + CHATML)
    chat = ChatFormat(tokenizer, "\n", "here", adds_bos=False)
    assert chat.before.startswith("Today is 01 Jan 2025.\n")
    assert rendered(tokenizer, chat, [{"type": "image"}]).startswith("Today is 01 Jan 2025.\n<|im_start|>")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template; use 'plain'"),
        ("{{ messages[0]['content'] | upper }}", "changes what the user says"),
        ("{{ raise_exception('only tools here') }}", "refuses a user's turn .only tools here"),
    ],
)
def test_templates_that_will_not_do_are_named(template, message):
    with pytest.raises(UserError, match=rf"model\.prompt = 'chat': .*{message}"):
        ChatFormat(chatml(template), "\n", "model.language = 'x'", adds_bos=False)


def test_a_text_format_in_the_llms_chat(tmp_path):
    folder = str(llm_folder(tmp_path / "llm", "gemma"))
    plain, chat = TextFormat(folder), TextFormat(folder, prompt="chat", instruction="Say it.")
    tokens = chat.tokenizer.convert_ids_to_tokens
    assert tokens(chat.start_ids)[:2] == ["<s>", "<start_of_turn>"]
    assert tokens(chat.end) == "<end_of_turn>"
    assert tokens(plain.end) == "</s>"
    assert (plain.caption_prompt_ids, plain.asked("Why?")) == ([], "Why?")
    assert chat.asked("Why?") == "Why?<end_of_turn>\n<start_of_turn>model\n"
    assert chat.caption_prompt_ids == chat.prompt_ids("") == chat.prompt_ids("Say it.")
    assert tokens(chat.caption_prompt_ids)[:2] == ["S", "a"]
    assert GEMMA in chat.chat_template()
    with pytest.raises(UserError, match=r"model\.language = 'world' has no chat template"):
        TextFormat("world", prompt="chat")
