"""Take polite words and particles off a Chinese utterance, to compare what is left.

A short request with and without `请` or `吧` is the same request, but has few characters in common.
One changed character of the rest can be another request (播放, 暂停), so only listed words go.

Sources: the particles at the end of a Mandarin sentence (语气词), and the words around requests in
the training split of CrossWOZ. A word that begins or ends another one stays where that one is
known: 酒吧, 请假, 周一下雨.
"""

import re
from collections.abc import Sequence

_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_LEAST_LEFT = 2
# No word of the lists is longer.
_LONGEST = 12
# The traditional characters of the words below, which are written in simplified ones.
_SIMPLIFY = str.maketrans(
    "請幫煩勞駕託懇給為問說講訴謝訂聽來著嗎麼囉嘍噠喲擾諮詢點趕緊順後現還這個們準備會夠盡該對萬別沒認識實網貼書邊兒種時條張",
    "请帮烦劳驾托恳给为问说讲诉谢订听来着吗么啰喽哒哟扰咨询点赶紧顺后现还这个们准备会够尽该对万别没认识实网贴书边儿种时条张",
)

# Of two patterns that begin alike, the one for the longer word is first.
_REQUESTS = (
    "请[问教](?:一下|下)?|请(?![假客求柬帖])",
    "麻烦(?:你们?|您|大家)?|(?:劳驾|劳烦|有劳|拜托|[烦恳敬]请|求求|求(?=你|您))(?:你|您)?了?|劳您|唔该",
    "帮助?(?:帮|一下|下)?(?:我们?|俺|咱们?)?(?:一?[个下])?忙|帮助?(?:帮|一下|下)?(?:我们?|俺|咱们?)",
    "帮(?![助派会主工凶手])|[给替为](?:我们?|咱们?)",
    "能不能够?|可不可以|可以不可以|能否|可否|可唔可以|是(?:否|不是)(?:可以|能够?)",
    "(?:如果)?(?:可以|方便|行)的话|可以|能够?(?![力量源耐人])",
    "(?:我们?)?想(?:请?问[问下]?|知道|了解|咨询|打听)(?:一下|下)?|想要|希望",
    "(?:我们?|俺|咱们?)(?:现在)?[还也就只]?(?:想要|需要|希望|打算|准备|[想要](?!念|是|[你他她它]们?了?\\b))",
    "想(?=去|找|吃|住|看|听|订|买|查|玩|逛|预|请|麻烦)",
    "(?:咨询|打听|了解|问)(?:一下|下)|问问|[你您]知道",
    "告诉(?:一下)?(?:我们?)|[跟和给](?:我们?)[说讲](?:[说讲]|一下)?",
    # These words belong to a request that follows.
    "赶紧|赶快|快点|快(?![递餐捷速进退放手乐报车照门要])",
    "(?:会|方便|马上|立刻|立即|现在|再|就|也|还|先|你|您)(?=请|帮|[给替为]我|麻烦|告诉|推荐|介绍"
    "|能[不否帮给]|可[不否]|可以[帮给]|我[想要])",
    "(?:please|pls)(?![a-z])",
)
_FILLERS = (
    "嗯+|呃+|唔+|[哦噢喔]+|[啊呀]+|[诶欸]+|哎[呀哟]?|唉|嘿+|咳",
    "对了|顺便|然后|那么(?![多大高长好])|那就|另外(?![一两二的])",
    "那(?![一家个些里边儿种时天次款首部段件位条张片座栋间么年月晚曲拉不])",
    # Before a pause only: they begin other words.
    r"(?:[恩额喂哈嗨好行]|那个|这个|就是)(?=[\W_])",
    "一下(?![午子级級])",
    r"[\W_]+",
)
_GREETINGS = (
    "(?:你们?|您|大家)好[啊呀]?|(?:早上|上午|中午|下午|晚上)好|哈[喽啰]|(?:hello|hi|hey)(?![a-z])",
    "好[的吧啊呀嘞哒滴呢啦]+|行[啊吧呀]|可以[啊呀吧]",
    r"(?:可以|ok|okay|收到|知道了|明白了?|清楚了|没事|没问题|是[吗么]|不错|太好了|当然|亲)(?=[\W_])",
    "不好意思|打扰(?:一下|下|了)?|抱歉|对不起",
)
_THANKS = (
    "(?:真是|真的|[真太很]|非常|十分|万分|特别)*(?:谢谢|[多感]谢|谢(?=[了啦]))"
    "(?:你们?|您|大家)?[了啦]?|感激不尽|(?<![a-z])(?:thanks|thx|3q)(?![a-z])",
)
_PARTICLES = (
    "[呢啊呀哇哦喔噢哟嘛吗啦咯喽哈呗唄嘞咧嗯呐欸诶唉哎哒噻啵吖呵耶呦嘻哼]",
    "(?<![酒网贴氧迪书茶])吧|(?<![什甚怎那这要多])么|(?<![不除为算罢罷得])了|(?<![目打])的",
    "(?<=[查看问找搜说讲试])下|(?<![周週期拜五六七八九十])一下[下子]?|(?<!咖)哩",
    "(?:好|行|成|可以|中|ok)(?:不好|不行|不成|[吗么嘛吧不])|可不可以|能不能|可好|可否",
    "就(?:好|行|可以|成)|即可|来着|罢了|而已|(?:如果)?(?:可以|方便|行)的话|帮(?:帮)?(?:我|忙|个忙)|给(?:我们?)",
    "(?<![很不太点])麻烦(?:你|您)?了?|(?:劳驾|有劳|拜托)(?:你|您)?了?|辛苦(?:你|您|了)+|唔该",
    r"(?<![a-z])(?:please|pls)|[\W_](?:亲(?:爱的)?|快一?点|赶紧的?)|[\W_]+",
)
# 周一下雨, 统一下单 and 一下午 do not have this word.
_A_BIT = re.compile("(?<![周週期拜五六七八九十初第统統唯專专之單单同逐])一下(?![午子级級])")


def _compile(before: Sequence[str], after: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return re.compile("|".join(before)), re.compile(rf"(?:{'|'.join(after)})\Z")


# A text that is nothing but friendly keeps its thanks and greetings.
_STAGES = (
    _compile((*_GREETINGS, *_THANKS, *_REQUESTS, *_FILLERS), (*_THANKS, *_PARTICLES)),
    _compile((*_REQUESTS, *_FILLERS), _PARTICLES),
)


def strip_polite_words(text: str) -> str:
    """Return a Chinese text without the polite words and particles around it, and without `一下`.

    A text that has no other words keeps its thanks and greetings, or stays as it is. So does a
    text without Chinese characters.

    Args:
        text: a normalised utterance.
    """
    if not _HAN.search(text):
        return text
    simplified = text.translate(_SIMPLIFY)
    for before, after in _STAGES:
        rest = _A_BIT.sub("", _strip(simplified, before, after))
        if sum(map(str.isalnum, rest)) >= _LEAST_LEFT:
            return rest
    return text


def _strip(text: str, before: re.Pattern[str], after: re.Pattern[str]) -> str:
    start, stop = 0, len(text)
    while start < stop and (word := before.match(text, start)):
        start = word.end()
    while start < stop and (word := after.search(text, max(start, stop - _LONGEST), stop)):
        stop = word.start()
    return text[start:stop]
