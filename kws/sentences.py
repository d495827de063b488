"""Running English sentences from a small grammar, free of any given keywords, for hours of speech without them."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

# Sound-alikes of the ten core words of Speech Commands, each within a sentence of its own.
SOUND_ALIKES = """
    I know the answer|do you know him|who knows what happened|it was not known|nobody knew her|the nose of the dog|
    write it again|she will write soon|a bright morning|the writer was tired|it was quite light|a slight fright|
    he made an offer|they offered more|often it rains|the office was closed|a soft coffee|cough and sneeze|
    she stopped talking|the bus stops here|a stopper for the bottle|the top of the hill|drop the rope|a shop in town|
    a gopher in the garden|the goat was hungry|an old gold coin|ghosts and goblins|it grows slowly|an oak by the road|
    the upper floor|a cup of tea|a puppy in a cupboard|supper is ready|an abrupt answer|wrap the package|
    the town was asleep|a brown gown|the clown frowned|a noun and a verb|drowning in work|a downy feather|
    he drifted away|the cleft in the rock|lift the lid|a leftover sandwich|the theft was solved|a deft hand|
    yesterday was warm|in yesteryear|guess the number|a yeast cake|the best chess player|lessons in dressing|
    an honest man|an onion and a lemon|honor the agreement|the dawn was pale|a swan by a pond|gone for a long time|
    a rightful owner|copyright law|the knight rode by|a note for noah|snow in the mountains|an open window
"""
# <name> stands for one of the lines below, drawn anew.
TEMPLATES = """
    <who> <did> <what> <where>|<who> <did> <what> <when>|<when> <who> <did> <what>|<who> said that <who> <did> <what>|
    the <adjective> <thing> was <state> <when>|the <thing> and the <thing> were <state>|why did <who> <do> <what>|
    could you <do> <what> <when>|<who> will <do> <what> <where> <when>|there were <number> <things> <where>|
    <who> has never <done> such <a> <thing>|if <who> can <do> <what>, then <who> should <do> <what> as well|
    nobody <where> wanted to <do> <what>|<who> asked whether the <thing> was <state>|let us <do> <what> together|
    it takes <number> minutes to <do> <what>|my <person> thinks the <things> are <state>|please <do> <what> for me
"""
WORDS = {
    "who": """the old teacher|my neighbour|a young doctor|her brother|the driver|our guests|the children|his mother|
        somebody|the farmer|a friend of mine|the captain|these people|the woman in blue|Peter|Susan|Daniel|Maria|Helen|
        the mayor|an engineer|the second witness|the whole family|his assistant|the baker|Charles|our team|Olivia""",
    "person": "uncle|sister|cousin|father|daughter|colleague|grandmother|landlord|boss|roommate",
    "did": """bought|carried|painted|forgot|described|repaired|wanted|lost|discovered|finished|cleaned|borrowed|
        mentioned|remembered|studied|collected|prepared|measured|counted|sold|brought|hid|followed|visited|enjoyed|damaged""",
    "do": """buy|carry|paint|forget|describe|repair|find|lose|discover|finish|clean|borrow|mention|remember|study|
        collect|prepare|measure|count|sell|bring|hide|follow|visit|enjoy|examine|explain|draw|imagine""",
    "done": "seen|bought|painted|described|repaired|wanted|found|heard|tasted|finished|imagined|received",
    "what": """the <adjective> <thing>|<number> <things>|a <thing>|some <adjective> <things>|every <thing>|
        their <thing>|the other <thing>|all of the <things>|that <adjective> <thing>|my <thing> and her <thing>|
        the <thing> with the <adjective> <thing>|most of the <things>""",
    "thing": """table|letter|bicycle|machine|picture|garden|basket|newspaper|umbrella|kitchen|engine|guitar|library|
        blanket|computer|candle|harbour|hammer|mirror|carpet|ticket|problem|calendar|bridge|suitcase|camera|potato|
        island|village|furniture|necklace|recipe|museum|telescope|pencil|sandwich|window|river|violin|dictionary""",
    "things": """books|chairs|flowers|boxes|letters|horses|bottles|questions|stories|pictures|apples|birds|trains|
        mistakes|windows|musicians|cameras|mountains|glasses|visitors|tickets|potatoes|engines|houses|trees|cats""",
    "adjective": """small|heavy|yellow|ancient|expensive|wooden|strange|beautiful|famous|broken|quiet|gentle|narrow|
        purple|comfortable|careful|dusty|modern|silver|wonderful|difficult|empty|friendly|enormous|happy|visual""",
    "state": """closed|ready|very expensive|better than expected|hard to describe|almost empty|covered with dust|
        in the wrong place|more than enough|cheaper last year|completely different|ten years older|easy to learn""",
    "where": """in the kitchen|at the station|near the river|behind the house|under the bridge|at school|in the city|
        by the window|across the street|in another country|beside the road|at home|in the forest|inside the museum""",
    "when": """last week|this morning|every Tuesday|before breakfast|after the meeting|in September|at midnight|later|
        during the winter|a few days ago|tomorrow evening|at six o'clock|many years before|since nineteen eighty""",
    "number": "two|three|four|five|six|seven|eight|nine|twelve|thirteen|twenty|thirty|forty|a hundred|several|few|zero",
    "a": "a",
}


def _choices(text: str) -> list[str]:
    return [" ".join(choice.split()) for choice in text.split("|")]


TEMPLATE_LIST, SOUND_ALIKE_LIST = _choices(TEMPLATES), _choices(SOUND_ALIKES)
WORD_LISTS = {name: _choices(text) for name, text in WORDS.items()}


def holds(text: str, keywords: Collection[str]) -> bool:
    """Whether `text` says one of `keywords`, as whole words."""
    spoken = " ".join(["", *re.findall(r"[a-z']+", text.lower()), ""])
    return any(f" {keyword.lower()} " in spoken for keyword in keywords)


def sentence(rng: np.random.Generator, keywords: Collection[str], sound_alike: bool = False) -> str:
    """One sentence without any of `keywords`; with `sound_alike`, one with a word that sounds like a keyword.

    Raises `ValueError` where the grammar has nothing to say without them.
    """

    def one_of(choices: list[str]) -> str:
        return choices[rng.integers(len(choices))]

    for _ in range(1000):
        text = one_of(SOUND_ALIKE_LIST if sound_alike else TEMPLATE_LIST)
        while place := re.search("<([a-z]+)>", text):
            text = text[: place.start()] + one_of(WORD_LISTS[place[1]]) + text[place.end() :]
        if not holds(text, keywords):
            return text
    raise ValueError(f"no sentence can be made without {', '.join(sorted(keywords))}; set speech_share=0")
