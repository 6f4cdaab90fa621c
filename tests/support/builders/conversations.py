"""Conversations of the PAI guide, and the instructions they are converted to."""

ENGLISH = """User: I want to listen to music.
Assistant: What kind of music?
User: Play ***.
Assistant:play_music(***)"""
ENGLISH_INSTRUCTION = "I want to listen to music. Play ***"
CHINESE = (
    "User:我想聽音樂。 Assistant:什麼類型的音樂? User:給我放個***的音樂吧。 "
    "Assistant:play_music(***)"
)
CHINESE_INSTRUCTION = "我想聽音樂。給我放個***的音樂吧。"
