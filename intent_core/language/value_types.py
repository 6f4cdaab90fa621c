"""Whether a value is a number or a date, in English and Chinese.

`is_number` and `is_date` are strict: `3个人` and `in 3 weeks` are neither. `may_be_number` and
`may_be_date` are lenient: False means that the value certainly is none. Some values are both a
number and a date: 2015, 20240501, 5.1 (1 May), 十一 (eleven, and 1 October).
"""

import re
import unicodedata

_LONGEST = 64

_DIGIT = "[一二两兩三四五六七八九]"
_SECTION = (
    rf"(?=[零〇十]|{_DIGIT})(?:{_DIGIT}千)?[零〇]?(?:{_DIGIT}百)?[零〇]?"
    rf"(?:{_DIGIT}?十)?[零〇]?{_DIGIT}?"
)
_CHINESE = (
    rf"(?=[零〇十]|{_DIGIT})(?:(?:{_SECTION}[亿億])?[零〇]?(?:{_SECTION}[万萬])?(?:{_SECTION})?"
    r"|[零〇一二三四五六七八九]{3,})(?:[点點][零〇一二三四五六七八九]+)?"
)
_ARABIC = r"(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?|\.\d+"
_WORD = (
    "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen"
    "|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty"
    "|ninety|hundred|thousand|million)"
)
_NUMBER = re.compile(
    rf"[-+]?(?:{_ARABIC}) ?[%‰十百千万萬亿億]?"
    rf"|[负負]?(?:百分之)?(?:{_CHINESE})"
    rf"|(?:a )?{_WORD}(?:(?: and |[ -]){_WORD})*(?: percent)?"
)
_NUMBER_PART = re.compile(
    r"[0-9零〇一二两兩三四五六七八九十百千万萬亿億半几幾多单單双雙俩倆仨]"
    rf"|\b(?:a|an|half|dozen|couple|few|several|many|single|both|{_WORD}|\w+th|first"
    r"|second|third|once|twice)\b"
)

_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    "|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_WEEKDAYS = (
    "mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:r|rs|rsday)?|fri(?:day)?|sat(?:urday)?"
    "|sun(?:day)?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
_ORDINAL = rf"(?:the )?{_DAY}(?:st|[nr]d|th)?"
_ENGLISH_DATE = (
    rf"{_YEAR}|{_YEAR}[-/.]{_MONTH}(?:[-/.]{_DAY})?"
    rf"|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    rf"|{_MONTH}[-/.]{_DAY}(?:[-/.](?:{_YEAR}|\d\d))?|{_DAY}[-/.]{_MONTH}[-/.](?:{_YEAR}|\d\d)"
    rf"|(?:{_MONTHS})\.? {_ORDINAL}(?:,? {_YEAR})?"
    rf"|{_ORDINAL}(?: of)? (?:{_MONTHS})\.?(?:,? {_YEAR})?"
    rf"|(?:{_MONTHS})\.? {_YEAR}|(?:(?:this|next|last) )?(?!may|mar\b)(?:{_MONTHS})"
    rf"|(?:(?:on|this|next|last|coming) )?(?:{_WEEKDAYS})"
    r"|(?:the day after |the day before )?(?:today|tomorrow|yesterday)|tonight"
    r"|(?:this|next|last) (?:week|weekend|month|year)"
)
_HAN_YEAR = rf"(?:{_YEAR}|[零〇一二三四五六七八九]{{4}})"
_HAN_MONTH = r"(?:0?[1-9]|1[0-2]|十[一二]?|[一二三四五六七八九])"
_HAN_DAY = rf"(?:{_DAY}|[一二三]?十[一二三四五六七八九]?|[一二三四五六七八九])"
_WEEK = "(?:周|週|星期|礼拜|禮拜)"
_CHINESE_DATE = (
    rf"(?:{_HAN_YEAR}年)?{_HAN_MONTH}月(?:份|{_HAN_DAY}[日号號]?)?"
    rf"|(?:{_HAN_YEAR}|今|明|后|後|去|前)年|[今明昨]日|[今明昨前后後]天|大[后後前]天"
    r"|今晚|明晚|昨晚|今早|明早|今晨|五一|十一|六一|八一"
    rf"|(?:这|這|本|上上?|下下?)?[个個]?{_WEEK}[一二三四五六日天末]"
    rf"|(?:这|這|本|上|下)[个個]?(?:{_WEEK}|月)"
)
_CHINESE_PART = "早上|早晨|凌晨|上午|中午|下午|傍晚|晚上|夜里"
_DATE = re.compile(
    rf"(?:{_ENGLISH_DATE})(?: (?:morning|afternoon|evening|night))?"
    rf"|(?:{_CHINESE_DATE})(?:{_CHINESE_PART})?"
)
_DATE_PART = re.compile(
    r"[0-9]|十一|五一|六一|八一|[零〇一二两兩三四五六七八九十几幾半多][个個]?[年月日号號天晚季]"
    rf"|[零〇一二两兩三四五六七八九十几幾半多每][个個]?{_WEEK}|{_WEEK}[一二三四五六日天末]"
    r"|[这這本上下每当當后後前今明昨去][个個]?[年月日天晚夜早晨季周週]|[年月周週][初底末中]"
    rf"|{_CHINESE_PART}|现在|現在|刚才|剛才|马上|馬上|最近|季度|[春夏秋冬][天季]|[节節]|假期"
    r"|除夕|元旦|中秋|端午|国庆|國慶|工作日"
    rf"|\b(?:{_MONTHS}|{_WEEKDAYS}|\w*days?|tomorrow|tonight|now|later|soon|ago|noon|night"
    r"|midnight|morning|evening|week\w*|months?|years?|decade|century|season|spring|summer"
    r"|autumn|fall|winter|christmas|easter|eve|date|\w+th|first|second|third)\b"
)


def is_number(value: str) -> bool:
    """Return True if `value` is a number and nothing else: 3, 1,000, 20%, 三万, 百分之二十, two."""
    return _matches(_NUMBER, value)


def is_date(value: str) -> bool:
    """Return True if `value` is a date and nothing else: 2024-05-01, May 5, Friday, 明天."""
    return _matches(_DATE, value)


def may_be_number(value: str) -> bool:
    """Return False if nothing in `value` suggests a number."""
    return len(value) > _LONGEST or _NUMBER_PART.search(_fold(value)) is not None


def may_be_date(value: str) -> bool:
    """Return False if nothing in `value` suggests a date."""
    return len(value) > _LONGEST or _DATE_PART.search(_fold(value)) is not None


def _matches(pattern: re.Pattern[str], value: str) -> bool:
    return 0 < len(value) <= _LONGEST and pattern.fullmatch(_fold(value)) is not None


def _fold(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
