"""A small bilingual labelled export that a tiny model can memorize."""

import itertools
import json
from pathlib import Path

CITIES = ("Hangzhou", "Paris", "Oslo", "杭州", "北京", "上海")
SONGS = ("Yesterday", "Hello", "十年", "红豆", "Imagine", "Angie")
WEATHER = ("weather in {}", "what is the weather in {}", "is it raining in {}", "查一下{}的天气")
MUSIC = ("play {}", "please play {}", "I want to hear {}", "播放{}")
EXITS = ("stop", "quit the music", "turn it off", "no more music", "不听了", "关掉音乐")
POLITE = ("", " please", " now", " for me")


def labelled_rows() -> list[dict[str, str]]:
    """Return 216 utterances of three intents, with their calls."""
    rows = [
        {"instruction": template.format(value) + polite, "output": f"{intent}({value})"}
        for intent, templates, values in (
            ("weather_search", WEATHER, CITIES),
            ("play_music", MUSIC, SONGS),
        )
        for template, value, polite in itertools.product(templates, values, POLITE)
    ]
    rows += [
        {"instruction": text + polite, "output": "music_exit()"}
        for text, polite in itertools.product(EXITS, POLITE)
    ]
    return rows


def to_itag(row: dict[str, str]) -> str:
    """Return one line of an export in the newer iTAG format."""
    mark = {"annotations": [{"id": None, "labels": {"output": row["output"]}, "exif": None}]}
    result = {
        "MarkResultId": "1",
        "MarkTitle": "基礎模版",
        "MarkResult": json.dumps(mark, ensure_ascii=False),
        "ResultType": "OPEN_GROUP",
        "IsNeedVoteJudge": False,
    }
    line = {
        "data": {"instruction": row["instruction"], "_itag_index": ""},
        "label-2006175077234225216": {"results": [result]},
        "abandonFlag": 0,
        "abandonRemark": None,
    }
    return json.dumps(line, ensure_ascii=False)


def write_export(path: Path) -> Path:
    lines = [to_itag(row) for row in labelled_rows()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
