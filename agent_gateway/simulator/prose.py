"""What the simulated model says: plain English about what was asked, of exactly the length wanted."""

from __future__ import annotations

import random
import re
from functools import lru_cache

from agent_gateway.simulator.tokens import pieces_of_text

_OPENINGS = (
    "Here is how I would look at {topic}.",
    "Thanks for the question about {topic}; the short answer is that it depends on two things.",
    "Let us take {topic} step by step.",
    "There is a simple way to think about {topic}, and a few details that matter.",
)
_SENTENCES = (
    "Start with what you already know about {topic} and write down what is still open.",
    "The first thing to check is whether {topic} behaves the same way each time.",
    "If it does, the cause is usually a setting rather than a fault.",
    "Most people find it easier to change one thing at a time and note what happens.",
    "A small example often shows more about {topic} than a long description.",
    "Keep the old version until you are sure that the new one works.",
    "In practice, {topic} matters less than how often you come back to it.",
    "You can try this today without any special tools.",
    "When the result surprises you, look at the input before you look at the code.",
    "It also helps to agree on what a good outcome for {topic} would look like.",
    "Some of this is a matter of taste, so pick the option that your team understands best.",
    "The costs are modest, and the benefit grows with every repetition.",
    "I would not worry about rare cases until the common ones are covered.",
    "If you need a number, measure it twice and take the slower one.",
    "There are two common mistakes here: doing too much at once, and stopping too early.",
    "Once {topic} is settled, the remaining steps are short.",
    "A colleague who has not seen it before is the best reviewer you can find.",
    "Please make sure that a backup exists before you change anything.",
    "That gives you a baseline, and every later change can be compared with it.",
    "The documentation covers the details, but the idea fits in one paragraph.",
    "For larger cases, split the work into parts that can be checked on their own.",
    "This is also the point at which {topic} should be explained to everyone involved.",
)
#: Endings, one of each length in tokens, from 1 up to what the shorter sentences need.
_ENDINGS = (
    "Yes",
    "Done.",
    "That works.",
    "That is all.",
    "I hope this helps.",
    "Tell me whether it works.",
    "Let me know how it goes.",
    "I can say more if you like.",
    "Ask me again when you have tried it.",
    "If anything is unclear, ask me once more.",
    "Tell me what you find and we can go on.",
    "If it does not work, tell me what you see.",
    "Write to me with what you find and we can go on.",
    "With that done, the next step should be easy enough to see.",
)
_ENDING_BY_LENGTH = {len(pieces_of_text(" " + ending)): ending for ending in _ENDINGS}
_LONGEST_ENDING = max(_ENDING_BY_LENGTH)
_PARAGRAPH_SENTENCES = 4

_KEYWORD = re.compile(r"[A-Za-z][A-Za-z-]{3,19}")
#: Of a question, only so much is looked through for its topic (characters).
_TOPIC_REACH = 2000
_NO_TOPIC = frozenset(
    re.findall(
        r"\w+",
        """
        about after again also answer because been before between both call could does each explain from give have help here
        hello how into just like list make many more most need only over please report same should show some summarise
        summarize tell than that their them then there these they this those using very want weather what when where which
        while will with words would write your
        """,
    )
)


def prose(question: str, tokens: int, chance: random.Random) -> list[str]:
    """Whole sentences on the question's topic in exactly `tokens` pieces."""
    topics = _topics(question)
    deck: list[str] = []
    said: list[str] = []
    sentence = ""
    sentences = 0
    while len(said) < tokens:
        left = tokens - len(said)
        deck = deck or chance.sample(_SENTENCES, len(_SENTENCES))
        sentence = _next_sentence([chance.choice(_OPENINGS)] if sentences == 0 else deck, left, chance.choice(topics), sentence)
        space = "" if not said else "\n\n" if sentences % _PARAGRAPH_SENTENCES == 0 else " "
        pieces = _pieces_of_sentence(space + sentence)
        said += pieces
        sentences += 1
    return said


def _next_sentence(deck: list[str], left: int, topic: str, last: str) -> str:
    """The deck's next sentence but not the `last` again, or near the end an ending of the length that is left. Never leaves one token."""
    if left in _ENDING_BY_LENGTH:
        return _ENDING_BY_LENGTH[left]
    for position in range(len(deck) - 1, -1, -1):
        sentence = deck[position].format(topic=topic)
        if sentence != last and ((after := left - len(_pieces_of_sentence(sentence))) == 0 or after > 1):
            del deck[position]
            return sentence
    return _ENDING_BY_LENGTH[_LONGEST_ENDING if left - _LONGEST_ENDING != 1 else _LONGEST_ENDING - 1]


@lru_cache(maxsize=1024)
def _pieces_of_sentence(sentence: str) -> tuple[str, ...]:
    return tuple(pieces_of_text(sentence))


def _topics(question: str) -> list[str]:
    words = dict.fromkeys(word.lower() for word in _KEYWORD.findall(question[-_TOPIC_REACH:]))
    return [word for word in words if word not in _NO_TOPIC][:5] or ["this"]
