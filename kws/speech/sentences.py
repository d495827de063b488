"""Running English sentences from a small grammar, free of any given keywords, for hours of speech without them.

Every third pattern, word and sound-alike is kept for evaluation, so that nothing is measured on what was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from kws.errors import KwsError

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
    a rightful owner|copyright law|the knight rode by|a note for noah|snow in the mountains|an open window|
    notice the difference|a novel about Norway|knowledge is power|november was cold|a nomad and a camel|nobody's notion|
    gold and silver|going home now|google it|a golden goal|the cargo boat|ago and ego|a mango and a tango|
    stopwatch and whistle|a stock of stones|nonstopping music|a stopover in Paris|step by step|stomp your feet|
    yessir said the sailor|yellow jelly|the chess set|a question of guessing|less or more|bless you|it says here|
    upset and upstairs|a pup and a duck|touch the button|hop over it|an uppercut|a cupful of sugar|uptown and downtown|
    update the upgrade|downstairs in the dark|download the file|sundown in town|a thousand pounds|found and bound|
    leftovers for lunch|a leftwing leftist|a letter from Jeff|self defence|breakfast is served|it felt soft|
    rightly or wrongly|upright and polite|fried rice|arrive at night|the ride was wild|alright then|an outright lie|
    honest and awful|onwards and upwards|one of us won|a honk and a bonk|in London and beyond|upon a time|a marathon|
    offside and offshore|offset by a coat|a toffee in a coffin|an officer coughed|scoff and doff|dropped in a cough
"""
# <name> stands for one of the lines below, drawn anew.
TEMPLATES = """
    <who> <did> <what> <where>|<who> <did> <what> <when>|<when> <who> <did> <what>|<who> said that <who> <did> <what>|
    the <adjective> <thing> was <state> <when>|the <thing> and the <thing> were <state>|why did <who> <do> <what>|
    could you <do> <what> <when>|<who> will <do> <what> <where> <when>|there were <number> <things> <where>|
    <who> has never <done> such <a> <thing>|if <who> can <do> <what>, then <who> should <do> <what> as well|
    nobody <where> wanted to <do> <what>|<who> asked whether the <thing> was <state>|let us <do> <what> together|
    it takes <number> minutes to <do> <what>|my <person> thinks the <things> are <state>|please <do> <what> for me|
    <when> the <things> <where> were <state>|have you <done> <what> <where>|<who> <did> <what>, but <who> <did> <what>|
    whose <thing> was <done> <when>|every <person> should <do> <what>|the <person> who <did> <what> was <state>|
    although <who> <did> <what>, the <thing> was <state>|did <who> really <do> <what> <when>|
    how <adjective> the <thing> is|
    <number> of the <things> were <done> <where>|<who> and my <person> <did> <what>|while <who> <did> <what>, it rained
"""
WORDS = {
    "who": """the old teacher|my neighbour|a young doctor|her brother|the driver|our guests|the children|his mother|
        somebody|the farmer|a friend of mine|the captain|these people|the woman in blue|Peter|Susan|Daniel|Maria|Helen|
        the mayor|an engineer|the second witness|the whole family|his assistant|the baker|Charles|our team|Olivia|
        a student|the postman|their lawyer|everybody|the nurse|Thomas|the gardener|a stranger|Emily|the pilot|Victor|
        a policeman|the singer|those boys|each visitor|the manager|Barbara|an artist|the carpenter|George|Monica|he|
        she""",
    "person": """uncle|sister|cousin|father|daughter|colleague|grandmother|landlord|boss|roommate|aunt|nephew|
        brother|partner|tenant|employer|grandson|dentist""",
    "did": """bought|carried|painted|forgot|described|repaired|wanted|lost|discovered|finished|cleaned|borrowed|
        mentioned|remembered|studied|collected|prepared|measured|counted|sold|brought|hid|followed|visited|enjoyed|
        damaged|
        ordered|washed|burned|noticed|shared|threw|wrapped|opened|kept|drew|admired|searched|polished|copied|
        invented""",
    "do": """buy|carry|paint|forget|describe|repair|find|lose|discover|finish|clean|borrow|mention|remember|study|
        collect|prepare|measure|count|sell|bring|hide|follow|visit|enjoy|examine|explain|draw|imagine|order|wash|burn|
        notice|share|throw|wrap|open|keep|admire|search|polish|copy|invent|destroy|deliver|photograph|choose|compare""",
    "done": """seen|bought|painted|described|repaired|wanted|found|heard|tasted|finished|imagined|received|broken|
        chosen|opened|stolen|cleaned|forgotten|delivered|replaced|hidden""",
    "what": """the <adjective> <thing>|<number> <things>|a <thing>|some <adjective> <things>|every <thing>|
        their <thing>|the other <thing>|all of the <things>|that <adjective> <thing>|my <thing> and her <thing>|
        the <thing> with the <adjective> <thing>|most of the <things>""",
    "thing": """table|letter|bicycle|machine|picture|garden|basket|newspaper|umbrella|kitchen|engine|guitar|library|
        blanket|computer|candle|harbour|hammer|mirror|carpet|ticket|problem|calendar|bridge|suitcase|camera|potato|
        island|village|furniture|necklace|recipe|museum|telescope|pencil|sandwich|window|river|violin|dictionary|
        airport|bottle|curtain|diamond|envelope|fountain|glove|helmet|invitation|jacket|kettle|lantern|magazine|needle|
        orange|parcel|quilt|rabbit|saddle|teapot|uniform|vegetable|wallet|yacht|zipper|balcony|chimney|drawer|elevator|
        feather|ghost|highway|insect|jungle|kingdom|ladder|medicine|notebook|orchestra|palace|question|radio|scissors|
        theatre|tunnel|umpire|valley|whistle|anchor|biscuit|castle|dolphin|factory|hospital|laundry|monument|
        pavement""",
    "things": """books|chairs|flowers|boxes|letters|horses|bottles|questions|stories|pictures|apples|birds|trains|
        mistakes|windows|musicians|cameras|mountains|glasses|visitors|tickets|potatoes|engines|houses|trees|cats|
        soldiers|gloves|lanterns|parcels|rabbits|oranges|ladders|curtains|envelopes|bridges|doctors|dollars|neighbours|
        candles|wolves|sisters|tomatoes|machines|newspapers|onions|opinions|shadows|teachers|uniforms|violins|
        whispers""",
    "adjective": """small|heavy|yellow|ancient|expensive|wooden|strange|beautiful|famous|broken|quiet|gentle|narrow|
        purple|comfortable|careful|dusty|modern|silver|wonderful|difficult|empty|friendly|enormous|happy|visual|
        bitter|clever|delicate|elegant|frozen|golden|hollow|innocent|jealous|loud|magnetic|nervous|ordinary|plastic|
        rotten|slippery|terrible|unusual|valuable|wet|absolute|brown|cheap|dangerous|electric|foreign|greasy|
        horrible""",
    "state": """closed|ready|very expensive|better than expected|hard to describe|almost empty|covered with dust|
        in the wrong place|more than enough|cheaper last year|completely different|ten years older|easy to learn|
        nowhere to be found|out of order|under repair|as cold as ice|too loud for us|rather dull|worth a fortune|
        overdue""",
    "where": """in the kitchen|at the station|near the river|behind the house|under the bridge|at school|in the city|
        by the window|across the street|in another country|beside the road|at home|in the forest|inside the museum|
        among the ruins|at the airport|below the surface|around the corner|above the clouds|in the theatre|
        near a volcano""",
    "when": """last week|this morning|every Tuesday|before breakfast|after the meeting|in September|at midnight|later|
        during the winter|a few days ago|tomorrow evening|at six o'clock|many years before|since nineteen eighty|
        in October|all afternoon|twice a month|before the concert|at noon|until Thursday|in the autumn|
        for a whole hour""",
    "number": """two|three|four|five|six|seven|eight|nine|twelve|thirteen|twenty|thirty|forty|a hundred|several|few|
    zero|
        eleven|fifty|a dozen|fifteen|too many|more than ten""",
    "a": "a",
}


def _choices(text: str) -> list[str]:
    return [" ".join(choice.split()) for choice in text.split("|")]


TEMPLATE_LIST, SOUND_ALIKE_LIST = _choices(TEMPLATES), _choices(SOUND_ALIKES)
WORD_LISTS = {name: _choices(text) for name, text in WORDS.items()}


def of_split(choices: list[str], split: str) -> list[str]:
    """Those of `choices` that a split may say: every third is for evaluation, the others are for training."""
    return [choice for i, choice in enumerate(choices) if (i % 3 == 2) == (split != "train")] or choices


def holds(text: str, keywords: Collection[str]) -> bool:
    """Whether `text` says one of `keywords`, as whole words."""
    spoken = " ".join(["", *re.findall(r"[a-z']+", text.lower()), ""])
    return any(f" {keyword.lower()} " in spoken for keyword in keywords)


def sentence(rng: np.random.Generator, keywords: Collection[str], split: str, sound_alike: bool = False) -> str:
    """One sentence of a split without any of `keywords`; with `sound_alike`, one with a sound-alike of a keyword.

    Raises `ValueError` where the grammar has nothing to say without them.
    """

    def one_of(choices: list[str]) -> str:
        choices = of_split(choices, split)
        return choices[rng.integers(len(choices))]

    for _ in range(1000):
        text = one_of(SOUND_ALIKE_LIST if sound_alike else TEMPLATE_LIST)
        while place := re.search("<([a-z]+)>", text):
            text = text[: place.start()] + one_of(WORD_LISTS[place[1]]) + text[place.end() :]
        if not holds(text, keywords):
            return text
    raise KwsError(f"no sentence can be made without {', '.join(sorted(keywords))}; set speech_share=0")
