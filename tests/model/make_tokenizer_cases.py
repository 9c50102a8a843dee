#!/usr/bin/env python3
"""Write the data of the tokenizer's tests: texts, small vocabularies, and the ids they must give.

The texts (tokenizer_texts.txt) are generated, seeded.  The ids come from tokenizers that nobody here
wrote: PyPI `tokenizers`, with the normaliser and the pre-tokenizers that the model's tokenizer.json
states, and PyPI `sentencepiece`, with a model proto filled in.

  tokenizer_ids_<model>.txt     ids by the vocabulary in the model's own GGUF file
  tokenizer_small_merges.txt    a small byte-level vocabulary, trained on the texts without cutting
                                them into words first, so that a word cut wrongly shows in the ids
  tokenizer_small_pieces.txt    a small SentencePiece vocabulary: score, type, text
  tokenizer_small_crc.txt       CRC-32 of the ids (4 bytes each, little-endian) by the small
                                vocabularies: one column for each of SMALL

    pip install tokenizers sentencepiece protobuf gguf
    python3 tests/model/make_tokenizer_cases.py [MODELS_DIR]       (default: the cache's models)
    python3 tests/model/make_tokenizer_cases.py --check-peer LLAMA_TOKENIZE [MODELS_DIR]

The last form writes nothing: it asks llama.cpp's llama-tokenize for the same texts and prints where
the two references differ, by kind of text.

What the references cannot say is defined here, as in model/tokenizer.h: neither takes invalid
UTF-8, so a text is cut at its invalid bytes, the parts between are given to the reference one by
one, and each invalid byte is the token of that byte (or nothing, where the vocabulary lacks it).

Format of the texts (and of a piece's text): one a line; `U` user text or `T` template text (control tokens count), `*N` if
what follows is repeated N times, a space, the text.  In it \\n \\r \\t \\\\ and \\xNN (a byte).
Format of the ids: one line for each text, decimal; `a,b*N` for a run of N times a b.
"""
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
MODELS = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
    "qwen2": "qwen2.5-coder-0.5b-instruct.gguf",
}

# --- texts --------------------------------------------------------------------------------------

SENTENCES = """\
The kettle had been singing for a while before anyone noticed.
Der Zug nach Köln fährt heute von Gleis 7 ab – bitte beeilen Sie sich!
Le garçon a mangé une crêpe à l'orée du bois, puis s'en est allé.
¿Dónde está la estación? Está a 200 m, a mano derecha; ¡corre!
O avião não pôde pousar por causa da neblina.
Perché no? Così è più facile, però costa di più.
Zażółć gęślą jaźń, powiedział ktoś cicho.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Az árvíztűrő tükörfúrógép nem működik.
Işığı söndür, İstanbul'da gece oldu.
Mắt kém nên không đọc được chữ nhỏ ở dưới.
Þetta er ekki svo erfitt, sagði hún og brosti.
Съешь ещё этих мягких булок, да выпей чаю.
Щастя — це коли є з ким помовчати.
Ξεχείλισε το ποτάμι μετά τη βροχή· κανείς δεν το περίμενε.
שלום לכולם, מה שלומכם היום? הַשָּׁלוֹם
كيف حالك اليوم؟ أنا بخيرٍ، شكرًا جزيلًا ١٢٣
امروز هوا خیلی خوب است؛ می‌رویم بیرون.
یہ کتاب میز پر رکھی ہے۔
नमस्ते दुनिया, क्षत्रिय कृपया २०२४ में आइए।
আমি বাংলায় গান গাই, কেমন আছো?
தமிழ் மொழி மிகவும் பழமையானது.
తెలుగు అక్షరాలు గుండ్రంగా ఉంటాయి.
ಕನ್ನಡದಲ್ಲಿ ಬರೆಯಿರಿ.
മലയാളം വായിക്കാൻ കഴിയുമോ?
ગુજરાતી લખાણ અહીં છે.
ਪੰਜਾਬੀ ਵਿੱਚ ਲਿਖੋ।
සිංහල අකුරු ලස්සනයි.
สวัสดีครับ วันนี้อากาศร้อนมาก ๑๒๓
ສະບາຍດີ ເຈົ້າສະບາຍດີບໍ່
မြန်မာဘာသာ စကားပြောတတ်လား။
ភាសាខ្មែរ ពិបាករៀនទេ?
བོད་སྐད་ཤེས་ཀྱི་ཡོད་དམ།
ግዕዝ ፊደል ብዙ ነው።
ქართული ანბანი ძალიან ლამაზია.
Հայերեն լեզուն հին է։
今天天气很好，我们去公园散步吧。
東京都の人口は約1,400万人です。カタカナとひらがな、ｶﾀｶﾅも。
한국어 문장을 하나 써 보겠습니다. ㅋㅋㅋ
臺灣的「正體字」與香港用字有別；【註】見下。
Монгол хэл дээр ᠮᠣᠩᠭᠣᠯ бичиг.
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ
ᐃᓄᒃᑎᑐᑦ
𐍈𐌰𐌹 𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 𐤀𐤁
Tiếng Việt có sáu thanh: ngang, huyền, sắc, hỏi, ngã, nặng."""

CODE = [
    "int main(void)\n{\n\tprintf(\"%d\\n\", 1 << 3);\n\treturn 0;\n}\n",
    "def f(x, *, y=None):\n    if x is None:\n        return y or {}\n    return {k: v for k, v in x.items()}\n",
    "for (let i = 0; i < xs.length; i++) { total += xs[i] ?? 0; } // sum\n",
    "SELECT a.id, COUNT(*) FROM t1 AS a LEFT JOIN t2 USING (id) WHERE a.x >= 10 GROUP BY 1;",
    "fn parse<'a>(s: &'a str) -> Result<&'a str, ()> { s.strip_prefix(\"0x\").ok_or(()) }",
    "#!/bin/sh\nset -eu\nfind . -name '*.o' -print0 | xargs -0 rm -f -- 2>/dev/null || true\n",
    "<div class=\"row\"><a href='#'>x</a> &amp; <!-- note --></div>",
    "{\"a\":[1,2.5e-3,null,true],\"b\":{\"c\":\"\\u00e9\"}}",
    "\\begin{equation}\n  \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}\n\\end{equation}",
    "    mov     rax, qword ptr [rbp - 8]\n    add     rax, 1\n",
    "@media (max-width: 640px) { .a > .b::after { content: \"\\201C\"; } }",
    "x = a ? b : c; y = !x && (z || ~w) ^ 0xFF; p->q[3] = '\\0';",
    "class Foo(Bar):\n\t\"\"\"Doc.\"\"\"\n\n\tdef __init__(self):\n\t\tself.x=1\n\n\n",
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@\n-old\n+new\n",
    "$ git log --oneline -n 5\r\nabc1234 Fix it\r\n",
]

ODD = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t", " \n", "\n ", " \n ", "  \n\n  \n x",
    "\u00a0", "\u00a0\u00a0x", "a\u00a0b", "\u3000", "\u3000\u3000あ", "a\u3000b", "\u2003x\u2009y", "\u2028x\u2029y", "\u0085x", "a\x0bb\x0cc",
    "\x1c\x1dx\x1e\x1f", "\u180ex \u180e", "\u200bx\u200b y", "\ufeffBOM", "x\ufeff", "\u200e\u200fmarks", "\u202ertl\u202c", "a\u00adb",
    "!\u0085!", "  \u2028\u2028 !", "!\u2029 \u202f!", ".\u1680.", "x \u205f\u205f5",
    "\x00", "\x00\x01\x02\x03\x04\x05\x06\x07\x08", "\x0e\x0f\x10\x11\x12\x13\x14", "\x7f\x80\x81\x9f", "a\x00b",
    "it's", "IT'S", "It'S", "'s", "'S", "''s", "'re 're 'RE", "we've WE'VE We'Ve", "I'm I'M i'M", "they'll THEY'LL", "he'd HE'D",
    "don't DON'T dOn'T", "'tis 'twas", "o'clock O'CLOCK", "'\u017f", "x'\u017f y'\u017f", "it\u2019s", "IT\u2019S", "'ll'll'll", "'l 'r 'v", "x'sx x'st", "x'Sx IT'SX WE'REx", "'LLama 'Tx",
    "'t't'T'T", "a'", "a' ", "' s", "5's", "5'S", "'5", "\u017f's",
    "0", "1", "12", "123", "1234", "12345", "1234567890", " 1", "  1", " 12", "   123", "1 2 3", "3.14159", "1,000,000", "-17", "+3", "1e10", "0x1F", "٣٤٥", "४५६",
    "①②③", "½ ¼ ⅓", "x²+y³", "Ⅷ Ⅻ", "一二三", "1st 2nd 3rd", "2024-01-31T12:00:00Z", "192.168.0.1:8080", "+49 (0)30 123-456", "$1,234.56", "50%", "№5",
    "a1b2c3", "1a2b", "v1.2.3-rc.4", "1\n2\n3", "1\u00a02", "1\u30002", "x1 1x 1 x",
    "https://example.org/a/b?c=d&e=%20f#g", "http://user:pw@host.example:8080/~x/", "mailto:a.b+c@example.co.uk", "ftp://[::1]/", "www.example.com/path_(x)",
    "C:\\Users\\x\\file.txt", "/usr/local/bin/../lib", "file:///etc/passwd", "a@b.c", "#hashtag @mention", "foo_bar fooBar FooBar FOO_BAR foo-bar",
    "!", "!!", "!!!", "?!", "...", "…", "—", "--", "---", "----", "-" * 40, "=" * 33, "_" * 17, "*" * 9, "#" * 6, "()", "[]", "{}", "<>", "</", "/>", "=>", "->", "::", ";;", "&&", "||",
    "\"quoted\"", "“quoted”", "«quoted»", "‚quoted‘", "`code`", "```\ncode\n```", "** bold **", "~~x~~", "| a | b |\n|---|---|\n", "- [ ] x\n- [x] y\n",
    "!\n", "!\n\n", "! \n", "!\r\n\r\n", ".\n\n\n\n", ") \n", "x\n!", "x \n y", "x  \n  y", "x\t\n\ty", "x\n\n\n\n\ny", "x   y", "x    y", "x\t y", "x \t y", " \t \t x", "x ", "x  ", "x\n", "x\t",
    "😀", "😀😃😄", "👍🏽", "👩‍👩‍👧‍👦", "👨🏿‍🚀", "🏳️‍🌈", "🇩🇪🇫🇷", "1️⃣2️⃣#️⃣", "❤️", "❤", "☺︎", "x😀y", " 😀 ", "😀 5", "😀's", "🫠🫡", "🧑‍💻 codes", "🤷🏻‍♀️?", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "e\u0301", "\u00e9", "E\u0301cole", "e\u0323\u0301", "e\u0301\u0323", "\u1ebf", "\u00ea\u0301", "a\u0308\u0304", "\u01d6", "u\u0308\u0304", "A\u030a", "\u212b", "\u00c5", "\u2126", "\u03a9", "\u212a",
    "\u0344", "\u0308\u0301", "\u0958", "\u0915\u093c", "\u09cb", "\u09c7\u09be", "\u0bca", "\u0b95\u0bc6\u0bbe", "\u0dda", "\u1025\u102e", "\u1100\u1161", "\u1100\u1161\u11a8", "\uac00\u11a8", "\uac01", "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u05e9\u05c1", "\ufb2a", "\ufb01", "\ufb03", "\uff21\uff22", "\u2460", "\uf900", "\u8c48", "\U0002f800", "\u4e3d", "\u0340", "\u0300", "\u0374", "\u037e", "\u1fef", "\u2000", "\u2002",
    "o\u0302\u0323", "o\u0323\u0302", "\u1ed9", "q\u0307\u0323", "q\u0323\u0307", "a\u0315\u0300\u05ae\u0300b", "a\u0300\u0301\u0302\u0303\u0304\u0305b", "\u0301a", " \u0301", "\n\u0301", "1\u0301", "x\u20e3", "\U0001d15e", "\U000110ab", "\U0001109b\U000110ba",
    "z\u0351\u036b\u0343\u036a\u0302\u036bg\u0334\u0313\u0300a", "n\u0303 N\u0303 \u00f1", "Zu\u0308rich Zürich", "cafe\u0301 café", "가각\u1100\u1161", "が か\u3099 ぱ は\u309a",
    "\u2581", "\u2581\u2581", "a\u2581b", "\u2581the", " \u2581 x", "<0x0A>", "<0x41>", "<unk>", "<s>", "</s>", "<pad>", "<bos>x", "[multimodal]", "<unused3>", "[PAD151665]", "<mask>",
    "<table><tr><td>x</td></tr></table>", "<h1>T</h1>\n<p>x</p>", "<b>bold</b><i>it</i>", "</a", "<a", "<code> x </code>", "<start_of_image>", ">\u2581</", "a> </b> </c>", "x> </", "<div> </div>",
    "Ġ", "Ċ", "Ġthe", "ĠĠ", "Ã©", "Â ", "ġ", "Ń",
    "\U00050000", "\U000e0001", "\U000f0000", "\U0010ffff", "\ue000", "\ufffd", "\uffff", "\ufdd0", "\U0001fae8",
    "a\U000423d9b", "\U0004bc9e", "x\U000650dfy", "a\x04b", "th\x06e", "\x13\x14in",
]

MARKS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|fim_prefix|>", "<tool_call>", "</tool_call>", "<repo_name>", "<file_sep>", "<start_of_turn>", "<end_of_turn>",
         "<bos>", "<eos>", "<s>", "</s>", "<unused10>", "<unused1>", "<|vision_start|>", "<jupyter_code>"]

INVALID = [
    b"\xff", b"\xfe\xff", b"\x80", b"\xbf\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2(\xa1", b"\xe2\x28\xa1 x", b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0",
    b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"abc\xffdef", b" \xff ", b"a \xffb",
    b"  \xff", b"\xff  x", b"\n\xff\n", b"it\xff's", b"1\xff2", b"\xe2\x96\x81\xe2\x96", b"\xe2\x96 \x81", b"x\xe2\x96\x81\xff\xe2\x96\x81y", b"e\xcc\x81\xffe\xcc", b"\xcc\x81\xcc", b"\xff\xcc\x81e\xcc\x81",
    b"caf\xc3\xa9 caf\xc3 caf\xe9", b"\xa9\xaa\xab", b"\x00\xff\x00", b"<|im_\xffend|>", b"\xe3\x81\x82\xe3\x81", "漢字".encode()[:-1], "한국어".encode()[1:], b"\xf1\x80\x80\x80x\xf3\xa0\x81\xa7",
]


def random_texts(rng):
    words = re.findall(r"\S+", SENTENCES)
    english = ("the of and to in is that for it was on are as with his they at be this from have or by one had not but "
               "what all were when we there can an your which their said if do will each about how up out them then she "
               "many some so these would other into has more her two like him see time could no make than first been its "
               "who now people my made over did down only way find use may water long little very after words called just "
               "tokenisation Internationalization pseudopseudohypoparathyroidism HTTP JSON GitHub PyTorch llama qwen").split()
    spaces = [" "] * 12 + ["  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n", "\n  ", "\n    ", "\n\t", "\u00a0", "\u3000", "", "", ", ", ". ", "; ", "-", "/", "_", "...", "\u2009", "     ", "\n\n\n"]
    punct = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["…", "—", "«", "»", "、", "。", "！", "「", "」", "¿", "£", "€", "→", "≤", "∑", "°"]
    contractions = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Ve", "'ve", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "'", "\u2019s"]
    emoji = [s for s in ODD if s and ord(s[0]) > 0x1F000]
    marks = [chr(c) for c in list(range(0x300, 0x345)) + [0x5B0, 0x5C1, 0x64B, 0x651, 0x93C, 0x94D, 0x3099, 0xFE0F, 0x200D]]
    assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]

    def number():
        return str(rng.randrange(10 ** rng.randrange(1, 9))) + rng.choice(["", "", ".5", ",000", "%", "th", "e-3"])

    def unit():
        k = rng.randrange(20)
        if k < 8:
            return rng.choice(english)
        if k < 12:
            return rng.choice(words)
        if k < 14:
            return number()
        if k < 15:
            return "".join(rng.choice(punct) for _ in range(rng.randrange(1, 5)))
        if k < 16:
            return rng.choice(english) + rng.choice(contractions)
        if k < 17:
            return rng.choice(emoji)
        if k < 18:
            return rng.choice("aeiouAEIOUncszqx각がक") + "".join(rng.choice(marks) for _ in range(rng.randrange(1, 4)))
        if k < 19:
            w = rng.choice(english)
            return rng.choice([w.upper(), w.capitalize(), w + rng.choice(english).capitalize(), w + "_" + rng.choice(english)])
        return "".join(chr(rng.choice(assigned)) for _ in range(rng.randrange(1, 3)))

    for _ in range(650):
        yield "".join(unit() + rng.choice(spaces) for _ in range(rng.randrange(1, 7)))
    for _ in range(250):  # any characters at all
        yield "".join(chr(rng.choice(assigned)) for _ in range(rng.randrange(1, 6)))
    for _ in range(120):  # white space and little else
        yield "".join(rng.choice([" ", " ", " ", "\n", "\t", "\r", "\u00a0", "\u3000", "\u2003", "\x0b", "x", "1", "."]) for _ in range(rng.randrange(2, 14)))
    for _ in range(100):  # ASCII noise
        yield "".join(chr(rng.randrange(1, 128)) for _ in range(rng.randrange(2, 16)))
    for _ in range(60):  # NFC's hard cases, side by side
        yield "".join(rng.choice([rng.choice("aeouAEO"), rng.choice(marks), chr(rng.randrange(0x1100, 0x1200)), chr(rng.randrange(0xAC00, 0xD7A4)), chr(rng.randrange(0x1E00, 0x1F00)),
                                  chr(rng.randrange(0x900, 0xE00))]) for _ in range(rng.randrange(2, 10)))


def make_texts():
    """(kind, template, repeat, bytes) in order."""
    rng = random.Random(20240607)
    out = []

    def add(kind, text, repeat=1, template=False):
        data = text if isinstance(text, bytes) else text.encode()
        out.append((kind, template, repeat, data))

    for s in ODD:
        add("odd", s)
    for s in SENTENCES.split("\n"):
        add("sentence", s)
    for s in CODE:
        add("code", s)
    for s in random_texts(rng):
        add("random", s)
    for s in INVALID:
        add("invalid", s)
    for _ in range(110):
        base = bytearray("".join(rng.choice(["word ", " x", "é", "漢", "😀", "12", "\n", "  ", "'s", "e\u0301"]) for _ in range(rng.randrange(1, 6))).encode())
        for _ in range(rng.randrange(1, 4)):
            base.insert(rng.randrange(len(base) + 1), rng.choice([0x80, 0xBF, 0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF, 0xFE]))
        add("invalid", bytes(base))
    for unit, n in [("a", 1), ("a", 2), ("a", 63), ("a", 64), ("a", 65), ("a", 5000), ("ab", 3000), ("the", 2000), (" ", 2000), ("\n", 1000), ("\t", 500), (" \n", 400), ("x ", 500), ("1", 3000), ("=", 1000),
                    ("é", 1000), ("e\u0301", 700), ("漢字", 500), ("😀", 300), ("\u0301", 300), (".!", 300), ("\u00a0", 300), ("\u3000", 300), ("\r\n", 300), ("'s", 300), ("abcdefghijklmnopqrstuvwxyz", 100),
                    ("  x", 300), ("a\u0301\u0323", 200), ("\u1100\u1161\u11a8", 200), ("hello world ", 200), (" the", 500), ("<", 500), ("<|", 300), ("</", 300), ("ÿ", 300), ("\u2581", 200), ("0", 17)]:
        add("long", unit, n)
    for n in (40, 120, 400):
        for alphabet in ("abcdefghijklmnopqrstuvwxyz", "ACGT", "etaoinshrdlu", "01", "аеинорстлв", "的一是不了人我在有他"):
            add("long", "".join(rng.choice(alphabet) for _ in range(n)))
    for template in (False, True):
        for mark in MARKS:
            for form in ("%s", "a%sb", " %s ", "%s%s" % ("%s", "\n"), "<%s>", "%s's"):
                add("marks", form % mark, 1, template)
        add("marks", "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nHi  <|im_end|>\n<|im_start|>assistant\n", 1, template)
        add("marks", "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", 1, template)
        for _ in range(80):
            add("marks", "".join(rng.choice([rng.choice(MARKS), rng.choice(MARKS)[:-1], " ", "\n", "user", "e\u0301", "  x", "漢", "'s", "12"]) for _ in range(rng.randrange(2, 8))), 1, template)
    return out


def escape(data):
    out = []
    pos = 0
    while pos < len(data):
        n = char_len(data, pos)
        c = data[pos:pos + n]
        pos += max(n, 1)
        if n == 0:
            out.append("\\x%02x" % data[pos - 1])
            continue
        ch = c.decode()
        if ch in "\n\r\t\\":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}[ch])
        elif (ch == " " or unicodedata.category(ch)[0] in "LNPS") and unicodedata.normalize("NFC", ch) == ch:
            out.append(ch)
        else:
            out.extend("\\x%02x" % b for b in c)
    return "".join(out)


def char_len(data, pos):
    """Length of the valid character at pos, or 0."""
    for n in (1, 2, 3, 4):
        try:
            data[pos:pos + n].decode("utf-8")
            return n if pos + n <= len(data) else 0
        except UnicodeDecodeError:
            pass
    return 0


# --- references ---------------------------------------------------------------------------------

def read_vocab(path):
    import gguf
    reader = gguf.GGUFReader(path)

    def array(name):
        field = reader.fields.get("tokenizer.ggml." + name)
        if field is None:
            return None
        if field.types[1] == gguf.GGUFValueType.STRING:
            return [bytes(field.parts[i]).decode() for i in field.data]
        return [field.parts[i][0].item() for i in field.data]

    return {name: array(name) for name in ("tokens", "token_type", "merges", "scores")}


def byte_alphabet():
    """How byte-level BPE writes a byte."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    text = {b: chr(b) for b in printable}
    text.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in printable)})
    return text


class Reference:
    """Cuts at invalid bytes; the rest is the subclass's."""

    def encode(self, data, template):
        ids = []
        start = pos = 0
        while pos <= len(data):
            n = char_len(data, pos) if pos < len(data) else 0
            if n > 0:
                pos += n
                continue
            if pos > start:
                ids += self.encode_valid(data[start:pos].decode(), template)
            if pos < len(data):
                ids += self.encode_byte(data[pos])
            pos += 1
            start = pos
        return ids


class BytesReference(Reference):
    def __init__(self, vocab, nfc, pre_tokenizers, ignore_merges=False):
        from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers as pt
        kind = vocab["token_type"]
        # The added tokens are in the vocabulary too (no merge makes them): they keep their ids.
        ids = {t: i for i, t in enumerate(vocab["tokens"]) if kind[i] in (1, 3, 4)}
        merges = [tuple(m.split(" ")) for m in vocab["merges"]]
        t = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges))
        if nfc:
            t.normalizer = normalizers.NFC()
        t.pre_tokenizer = pt.Sequence(pre_tokenizers)
        for i, s in enumerate(vocab["tokens"]):
            if kind[i] == 3:
                t.add_special_tokens([AddedToken(s, special=True, normalized=False)])
            elif kind[i] == 4:
                t.add_tokens([AddedToken(s, special=False, normalized=False)])
        assert all(t.token_to_id(s) == i for s, i in ids.items())
        self.tokenizer = t
        self.ids = ids
        self.byte_text = byte_alphabet()

    def encode_valid(self, text, template):
        self.tokenizer.encode_special_tokens = not template
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_byte(self, byte):
        i = self.ids.get(self.byte_text[byte])
        return [] if i is None else [i]


class PiecesReference(Reference):
    def __init__(self, vocab, prefix=False, fallback=True):
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as proto
        m = proto.ModelProto()
        kind = vocab["token_type"]
        for i, (token, score) in enumerate(zip(vocab["tokens"], vocab["scores"])):
            piece = m.pieces.add()
            piece.piece = token.replace(" ", "\u2581")
            piece.score = score
            piece.type = 2 if token == "<unk>" else kind[i]
        m.trainer_spec.model_type = 2  # BPE
        m.trainer_spec.byte_fallback = fallback
        for name in ("unk", "bos", "eos", "pad"):
            text = "<%s>" % name
            setattr(m.trainer_spec, name + "_id", vocab["tokens"].index(text) if text in vocab["tokens"] else -1)
        m.normalizer_spec.name = "identity"
        m.normalizer_spec.add_dummy_prefix = prefix
        m.normalizer_spec.remove_extra_whitespaces = False
        m.normalizer_spec.escape_whitespaces = True
        self.sp = sentencepiece.SentencePieceProcessor()
        self.sp.LoadFromSerializedProto(m.SerializeToString())
        control = sorted((t for i, t in enumerate(vocab["tokens"]) if kind[i] == 3), key=len, reverse=True)
        self.vocab = vocab
        self.prefix = prefix
        self.fallback = fallback
        self.control = re.compile("(" + "|".join(map(re.escape, control)) + ")")
        self.ids = {t: i for i, t in enumerate(vocab["tokens"])}

    def encode_valid(self, text, template):
        if not template:
            return self.sp.EncodeAsIds(text)
        ids = []
        for i, part in enumerate(self.control.split(text)):
            if i % 2 == 1:
                ids.append(self.ids[part])
            elif part:
                ids += self.sp.EncodeAsIds(part)
        return ids

    def encode_byte(self, byte):
        return [self.ids["<0x%02X>" % byte if self.fallback else "<unk>"]]

    def encode(self, data, template):
        """Invalid bytes: the prefix comes once, and neighbouring unknown tokens are one."""
        try:
            return self.encode_valid(data.decode(), template)
        except UnicodeDecodeError:
            assert not template
        if self.prefix:
            plain = PiecesReference(self.vocab, False, self.fallback)
            return plain.encode(" ".encode() + data, template)
        ids = super().encode(data, template)
        unk = self.ids["<unk>"]
        return [i for n, i in enumerate(ids) if self.fallback or i != unk or n == 0 or ids[n - 1] != unk]


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def bytes_reference(pre, vocab):
    from tokenizers import Regex, pre_tokenizers as pt
    gpt2 = pt.ByteLevel(add_prefix_space=False, use_regex=True)
    whole = pt.ByteLevel(add_prefix_space=False, use_regex=False)
    split = lambda pattern: pt.Split(Regex(pattern), behavior="isolated", invert=False)
    steps = {
        "gpt-2": [gpt2],
        "smollm": [pt.Digits(individual_digits=True), gpt2],
        "llama-bpe": [split(LLAMA3), whole],
        "smaug-bpe": [split(LLAMA3), whole],
        "qwen2": [split(QWEN2), whole],
    }[pre]
    return BytesReference(vocab, pre == "qwen2", steps, ignore_merges=pre == "llama-bpe")


def make_reference(name, vocab):
    if name == "gemma3":
        return PiecesReference(vocab)
    return bytes_reference({"smollm2": "smollm"}.get(name, name), vocab)


# --- small vocabularies --------------------------------------------------------------------------

def train(sequences, count):
    """Byte-pair merges of the most frequent neighbours, the first of equals."""
    merges = []
    sequences = [list(s) for s in sequences]
    while len(merges) < count:
        pairs = {}
        for s in sequences:
            for pair in zip(s, s[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        joined = best[0] + best[1]
        for s in sequences:
            i = 0
            while i + 1 < len(s):
                if s[i] == best[0] and s[i + 1] == best[1]:
                    s[i:i + 2] = [joined]
                i += 1
    return merges


def sample(texts):
    """What the small vocabularies are trained on: some valid texts, and numbers."""
    out = [data.decode() for kind, template, repeat, data in texts if kind in ("odd", "sentence", "code", "random")][::4]
    return out + ["12 123 1234 2024 1999 100", "IT'S it's I'LL i'll DON'T", "x\n\n\ny", "word  word   word"] * 6


def small_merges(texts):
    byte_text = byte_alphabet()
    return train([[byte_text[b] for b in s.encode()] for s in sample(texts)], 600)


def small_pieces(texts):
    """(score, type, text): characters seen often, merges with scores that are often equal, some of
    them unused, and some user-defined tokens."""
    sequences = [s.replace(" ", "\u2581") for s in sample(texts)]
    counts = {}
    for s in sequences:
        for c in s:
            counts[c] = counts.get(c, 0) + 1
    chars = sorted(c for c in counts if counts[c] >= 4)
    merges = []
    for a, b in train(sequences, 500):
        if a + b not in merges:
            merges.append(a + b)
    user = ["\n\n", "\n\n\n", "\u2581\u2581", "<td>", "'s", "\u2581the\u2581"]
    merges = [m for m in merges if m not in user]
    out = [(0.0, 2, "<unk>"), (0.0, 3, "<s>"), (0.0, 3, "</s>")]
    out += [(0.0, 6, "<0x%02X>" % b) for b in range(256)]
    out += [(-500.0, 4, u) for u in user]
    out += [(-1.0 - i // 3, 5 if i % 7 == 3 else 1, m) for i, m in enumerate(merges)]
    out += [(-1000.0 - i, 5 if i % 11 == 5 else 1, c) for i, c in enumerate(chars)]
    return out


SMALL = ["gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2", "pieces", "pieces-prefix", "pieces-unknown"]


def small_reference(name, merges, pieces):
    if not name.startswith("pieces"):
        byte_text = byte_alphabet()
        tokens = ["<|endoftext|>", "<|im_start|>", "<tool_call>"] + [byte_text[b] for b in range(256)]
        for a, b in merges:
            if a + b not in tokens:
                tokens.append(a + b)
        kind = [3, 3, 4] + [1] * (len(tokens) - 3)
        return bytes_reference(name, {"tokens": tokens, "token_type": kind, "merges": [a + " " + b for a, b in merges]})
    # With a prefix there are no user-defined tokens, without byte tokens there are unknown ones.
    drop = {"pieces": (), "pieces-prefix": (4,), "pieces-unknown": (6,)}[name]
    vocab = {"tokens": [p for _, _, p in pieces], "scores": [s for s, _, _ in pieces], "token_type": [1 if t in drop else t for _, t, _ in pieces]}
    return PiecesReference(vocab, prefix=name == "pieces-prefix", fallback=name != "pieces-unknown")


def crc(ids):
    return "%08x" % zlib.crc32(b"".join(i.to_bytes(4, "little") for i in ids))


def ask_peer(binary, model, data, template):
    with tempfile.NamedTemporaryFile(delete=False) as f:
        f.write(data)
    command = [binary, "-m", model, "-f", f.name, "--ids", "--no-bos", "--no-escape", "--log-disable"] + ([] if template else ["--no-parse-special"])
    out = subprocess.run(command, capture_output=True).stdout.decode(errors="replace")
    os.unlink(f.name)
    last = out.strip().split("\n")[-1]
    return [int(x) for x in last.strip("[]").split(",") if x.strip()]


def runs(ids):
    """Short form: `1,2*50` is 1 2 fifty times over."""
    out = []
    i = 0
    while i < len(ids):
        best, period = 1, 1
        for p in range(1, 13):
            n = 1
            while ids[i + n * p:i + (n + 1) * p] == ids[i:i + p] and len(ids) >= i + (n + 1) * p:
                n += 1
            if n > 1 and n * p > best * period:
                best, period = n, p
        text = ",".join(map(str, ids[i:i + period]))
        out.append(text if best == 1 else "%s*%d" % (text, best))
        i += best * period
    return " ".join(out)


def write_small(texts):
    merges, pieces = small_merges(texts), small_pieces(texts)
    with open(os.path.join(DATA, "tokenizer_small_merges.txt"), "w", newline="\n") as f:
        for a, b in merges:
            f.write("%s %s\n" % (a, b))
    with open(os.path.join(DATA, "tokenizer_small_pieces.txt"), "w", newline="\n") as f:
        for score, kind, piece in pieces:
            f.write("%g %d %s\n" % (score, kind, escape(piece.encode())))
    references = [small_reference(name, merges, pieces) for name in SMALL]
    with open(os.path.join(DATA, "tokenizer_small_crc.txt"), "w", newline="\n") as f:
        for _, template, repeat, data in texts:
            f.write(" ".join(crc(r.encode(data * repeat, template)) for r in references) + "\n")


def main():
    args = sys.argv[1:]
    peer = None
    if args[:1] == ["--check-peer"]:
        peer = args[1]
        args = args[2:]
    folder = args[0] if args else os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "sluice", "models")
    texts = make_texts()
    if peer is None:
        os.makedirs(DATA, exist_ok=True)
        with open(os.path.join(DATA, "tokenizer_texts.txt"), "w", newline="\n") as f:
            for _, template, repeat, data in texts:
                f.write(("T" if template else "U") + ("" if repeat == 1 else "*%d" % repeat) + " " + escape(data) + "\n")
        write_small(texts)
    for name, file in MODELS.items():
        path = os.path.join(folder, file)
        reference = make_reference(name, read_vocab(path))
        if peer is None:
            with open(os.path.join(DATA, "tokenizer_ids_%s.txt" % name), "w", newline="\n") as f:
                for _, template, repeat, data in texts:
                    f.write(runs(reference.encode(data * repeat, template)) + "\n")
            continue
        counts = {}
        step = int(os.environ.get("STEP", "40"))  # each question loads the model: ask some
        for kind, template, repeat, data in texts[::step]:
            mine, theirs = reference.encode(data * repeat, template), ask_peer(peer, path, data * repeat, template)
            n = counts.setdefault(kind, [0, 0])
            n[0] += 1
            if mine != theirs:
                n[1] += 1
                print(name, kind, "T" if template else "U", escape(data)[:80], mine[:20], theirs[:20])
        print(name, {k: "%d of %d differ" % (v[1], v[0]) for k, v in counts.items()})


if __name__ == "__main__":
    main()
