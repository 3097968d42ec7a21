"""English function words. All other words of a question are its content words."""

_LINES = (
    "a an the this that these those there here",
    "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs 's",
    "himself herself itself themselves someone something anyone anything everyone everything nobody nothing",
    "who whom whose which what when where why how",
    "am is are was were be been being isn't aren't wasn't weren't do does did doing done don't doesn't didn't",
    "has have had having hasn't haven't hadn't can could will would shall should may might must can't couldn't won't",
    "and or but nor so yet if then than because as while though although whether both either neither not no yes",
    "of in on at by for from to into onto with without within about over under above below between behind beside near",
    "next after before during through across along around against off out up down upon toward towards inside outside",
    "any some all each every many much more most few less least several other another same such only own too very",
    "also just still even again ever never always often really almost likely probably possible currently",
    "one ones kind type sort name called make made makes look looks looking like seem seems appear appears",
    # Words about the picture itself.
    "image images picture pictures photo photos photograph scene shown visible seen see",
)
FUNCTION_WORDS = frozenset(word for line in _LINES for word in line.split())
