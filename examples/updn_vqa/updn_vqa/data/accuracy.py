"""The official VQA accuracy, in both versions that published numbers were computed with.

An answer counts ``min(1, matches / 3)``, averaged over the ten ways to leave one human answer out: 0, .3, .6, .9
or 1 for 0, 1, 2, 3 and more matches. The versions differ in what is normalised before answers are compared:

====== ============================================= ===============================================
part   ``"2016"`` (in force for the paper)           ``"2021"``
====== ============================================= ===============================================
ours   always                                        unless the ten human answers are identical
human  punctuation only, unless the ten are          completely, unless the ten are identical
       identical
====== ============================================= ===============================================

Reference: ``vqaEval.py`` of https://github.com/GT-Vision-Lab/VQA, commits 458a8b2 and a013f00.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from updn_vqa.data.questions import Annotation, check_same_questions

AccuracyVersion = Literal["2016", "2021"]

# The tables are part of the definition of the metric: the punctuation lacks ":" and "'". Entries of the official
# contraction table that can never apply (capitals, identities) are left out.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the evaluator passes re.UNICODE, which is 32, where re.sub takes a count
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_CONTRACTION_TABLE = """
aint:ain't arent:aren't cant:can't couldve:could've couldnt:couldn't couldn'tve:couldn't've
couldnt've:couldn't've didnt:didn't doesnt:doesn't dont:don't hadnt:hadn't hadnt've:hadn't've
hadn'tve:hadn't've hasnt:hasn't havent:haven't hed:he'd hed've:he'd've he'dve:he'd've hes:he's howd:how'd
howll:how'll hows:how's isnt:isn't itd:it'd itd've:it'd've it'dve:it'd've itll:it'll maam:ma'am
mightnt:mightn't mightnt've:mightn't've mightn'tve:mightn't've mightve:might've mustnt:mustn't mustve:must've
neednt:needn't notve:not've oclock:o'clock oughtnt:oughtn't ow's'at:'ow's'at 'ows'at:'ow's'at 'ow'sat:'ow's'at
shant:shan't shed've:she'd've she'dve:she'd've shouldve:should've shouldnt:shouldn't shouldnt've:shouldn't've
shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've somebody'dve:somebody'd've
somebodyll:somebody'll somebodys:somebody's someoned:someone'd someoned've:someone'd've
someone'dve:someone'd've someonell:someone'll someones:someone's somethingd:something'd
somethingd've:something'd've something'dve:something'd've somethingll:something'll thats:that's
thered:there'd thered've:there'd've there'dve:there'd've therere:there're theres:there's theyd:they'd
theyd've:they'd've they'dve:they'd've theyll:they'll theyre:they're theyve:they've twas:'twas wasnt:wasn't
wed've:we'd've we'dve:we'd've weve:we've werent:weren't whatll:what'll whatre:what're whats:what's
whatve:what've whens:when's whered:where'd wheres:where's whereve:where've whod:who'd whod've:who'd've
who'dve:who'd've wholl:who'll whos:who's whove:who've whyll:why'll whyre:why're whys:why's wont:won't
wouldve:would've wouldnt:wouldn't wouldnt've:wouldn't've wouldn'tve:wouldn't've yall:y'all yall'll:y'all'll
y'allll:y'all'll yall'd've:y'all'd've y'alld've:y'all'd've y'all'dve:y'all'd've youd:you'd youd've:you'd've
you'dve:you'd've youll:you'll youre:you're youve:you've
"""
_CONTRACTIONS = dict(entry.split(":") for entry in _CONTRACTION_TABLE.split())


def normalise_answer(text: str) -> str:
    """Bring an answer into the evaluator's form: punctuation, lower case, digits, no articles, apostrophes.

    Example:
        >>> normalise_answer("The twenty-one dogs dont bark.")
        "twenty 1 dogs don't bark"
    """
    return _normalise_words(_normalise_punctuation(_strip(text)))


def vqa_accuracy(prediction: str, answers: Sequence[str], *, version: AccuracyVersion = "2016") -> float:
    """The accuracy, in [0, 1], of one prediction against the human answers (ten in VQA), as they were typed.

    Example:
        >>> vqa_accuracy("two", ["2"] * 2 + ["3"] * 8)
        0.6
    """
    prediction = _strip(prediction)
    if version == "2021":
        answers = [_strip(answer) for answer in answers]
    disputed = len(set(answers)) > 1
    if disputed or version == "2016":
        prediction = _normalise_words(_normalise_punctuation(prediction))
    if disputed:
        answers = [_normalise_punctuation(answer) for answer in answers]
        if version == "2021":
            answers = [_normalise_words(answer) for answer in answers]
    matches = [answer == prediction for answer in answers]
    # Summed one by one as in the evaluator, so that the last digit agrees.
    return sum(min(1.0, (sum(matches) - match) / 3) for match in matches) / len(matches)


@dataclass(frozen=True)
class AccuracyReport:
    """VQA accuracies in percent, rounded to two digits like the official evaluator's.

    Attributes:
        overall: The mean over all questions.
        by_answer_type: The mean over the questions of each answer type.
        by_question_type: The mean over the questions of each question type.
        by_question: The accuracy of each question, by its id.
    """

    overall: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]
    by_question: dict[int, float]


def evaluate(
    results: Mapping[int, str], annotations: Iterable[Annotation], *, version: AccuracyVersion = "2016"
) -> AccuracyReport:
    """Evaluate one answer, by question id, for every annotated question.

    Raises:
        InputError: ``results`` and ``annotations`` are about different questions.
    """
    by_id = {annotation.question_id: annotation for annotation in annotations}
    check_same_questions(results, by_id, "results")
    by_question: dict[int, float] = {}
    by_answer_type: defaultdict[str, list[float]] = defaultdict(list)
    by_question_type: defaultdict[str, list[float]] = defaultdict(list)
    for question_id, prediction in results.items():
        annotation = by_id[question_id]
        accuracy = vqa_accuracy(prediction, annotation.answers, version=version)
        by_question[question_id] = accuracy
        by_answer_type[annotation.answer_type].append(accuracy)
        by_question_type[annotation.question_type].append(accuracy)
    return AccuracyReport(
        overall=_percent(by_question.values()),
        by_answer_type={name: _percent(values) for name, values in by_answer_type.items()},
        by_question_type={name: _percent(values) for name, values in by_question_type.items()},
        by_question={question_id: _percent([value]) for question_id, value in by_question.items()},
    )


def _percent(accuracies: Iterable[float]) -> float:
    accuracies = list(accuracies)
    return round(100 * sum(accuracies) / len(accuracies), 2)


def _strip(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _normalise_punctuation(text: str) -> str:
    """Remove punctuation beside a space (or all, if the text has a comma in a number); replace the rest by spaces."""
    remove_all = _COMMA_IN_NUMBER.search(text) is not None
    normalised = text
    for mark in _PUNCTUATION:
        if mark in text:
            beside_space = f"{mark} " in text or f" {mark}" in text
            normalised = normalised.replace(mark, "" if remove_all or beside_space else " ")
    return _PERIOD.sub("", normalised, count=_MAX_PERIODS)


def _normalise_words(text: str) -> str:
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
