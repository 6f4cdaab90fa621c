"""Judges answers by grammars, with xgrammar in vLLM's environment: lines of JSON in and out.

A question is `{"grammar": ..., "answers": [...]}`. The reply contains for each answer whether the
grammar accepts it, token by token, with each tokenizer: single bytes, and those of the folders.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

_STOP = 256


class GrammarJudge:
    """This module as a running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def judge(self, grammar: str, *answers: str) -> list[bool]:
        """Return which answers the grammar accepts; the tokenizers must agree."""
        assert self._process.stdin and self._process.stdout
        question = {"grammar": grammar, "answers": answers}
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        assert reply, "xgrammar's process ended"
        verdicts: list[list[bool]] = json.loads(reply)
        assert all(len(set(verdict)) == 1 for verdict in verdicts), (grammar, answers, verdicts)
        return [verdict[0] for verdict in verdicts]


@contextmanager
def start_judge(python: Path, *tokenizers: Path) -> Iterator[GrammarJudge]:
    """Start the program with vLLM's Python and the tokenizers of these model folders."""
    command = [str(python), __file__, *map(str, tokenizers)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield GrammarJudge(process)
        assert process.stdin
        process.stdin.close()


def _serve(folders: Sequence[str]) -> None:
    xgrammar = import_module("xgrammar")  # only in vLLM's environment

    readers = [(list[int], [bytes([i]) for i in range(_STOP)] + [b"</s>"], "RAW", _STOP)]
    readers += map(_load, folders)
    compilers = []
    for encode, vocabulary, kind, stop in readers:
        tokens = xgrammar.TokenizerInfo(
            vocabulary, getattr(xgrammar.VocabType, kind), stop_token_ids=[stop]
        )
        compilers.append((encode, xgrammar.GrammarCompiler(tokens), len(vocabulary), stop))

    def accepts(grammar: str, answer: str, tokenizer: Any) -> bool:
        encode, compiler, size, stop = tokenizer
        matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(grammar))
        mask = xgrammar.allocate_token_bitmask(1, size)
        for token in [*encode(answer.encode()), stop]:
            matcher.fill_next_token_bitmask(mask)
            is_allowed = bool(int(mask[0, token // 32]) >> (token % 32) & 1)
            if matcher.accept_token(token) != is_allowed:
                raise SystemExit(f"the mask is not the grammar for {answer!r}: {grammar}")
            if not is_allowed:
                return False
        return True

    for line in sys.stdin:
        question = json.loads(line)
        grammar, answers = question["grammar"], question["answers"]
        verdicts = [[accepts(grammar, answer, t) for t in compilers] for answer in answers]
        sys.stdout.write(f"{json.dumps(verdicts)}\n")
        sys.stdout.flush()


def _load(folder: str) -> tuple[Any, list[str], str, int]:
    """Return a byte-level tokenizer of a model folder."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    vocabulary = [str(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]
    stop = tokenizer.token_to_id("<|im_end|>")
    return (lambda text: tokenizer.encode(text.decode()).ids), vocabulary, "BYTE_LEVEL", stop


if __name__ == "__main__":
    _serve(sys.argv[1:])
