"""Build a tiny causal language model with random weights."""

import json
from pathlib import Path

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SENTENCES = (
    "You are an intent recognition expert.",
    "You can recognize an intent based on user questions.",
    "Return the corresponding intent and parameters.",
    "What will the weather be in Hangzhou tomorrow?",
    "Is it going to rain in Shanghai this weekend?",
    "Will it snow in Boston on Friday evening?",
    "Play some music by Miles Davis, please.",
    "Play the song Yellow Submarine by the Beatles.",
    "Add this track to my workout playlist.",
    "Stop the music and leave the player.",
    "Book a table for four at an Italian restaurant tonight.",
    "Find me a hotel near the railway station.",
    "Set an alarm for seven in the morning.",
    "Turn on the lights in the living room.",
    "Turn off the air conditioning in the bedroom.",
    "Search for the movie schedule at the nearest cinema.",
    "Rate this book five out of six stars.",
    "Navigate to the airport and avoid the motorway.",
    "weather_search(Hangzhou);music_exit()",
    "weather_search(Shanghai, weekend)",
    "music_play(Miles Davis);book_restaurant(Italian, 4)",
    "navigate(airport);set_alarm(7:00)",
    "turn_on(lights, living room);turn_off(air conditioning)",
    "杭州明天的天气怎么样？",
    "上海这个周末会下雨吗？",
    "我想听周杰伦的歌。",
    "退出音乐播放。",
    "帮我订一家北京的酒店，价格便宜一点。",
    "附近有什么好吃的餐馆？",
    "把客厅的灯打开，把卧室的空调关掉。",
    "明天早上七点叫我起床。",
    "导航到最近的地铁站。",
)


def build_tiny_model(folder: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a random model of `architecture` ("llama" or "qwen2") to `folder` and return it.

    Byte-level BPE, ChatML template, safetensors: transformers and vLLM load it without conversion.
    The same architecture and seed give the same bytes.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        # Qwen2's tokenizer adds a missing <|endoftext|>, an id that the model would not have.
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=IM_END,
        pad_token=IM_END,
        additional_special_tokens=[END_OF_TEXT, IM_START],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHATML

    families = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    config_class, model_class = families[architecture]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _embed_chat_template(folder / "tokenizer_config.json")
    return folder


def _embed_chat_template(path: Path) -> None:
    """Add the template to the tokenizer's settings, and a class that every version supports."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"chat_template": CHATML, "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")
