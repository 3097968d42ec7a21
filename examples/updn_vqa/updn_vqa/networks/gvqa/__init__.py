"""Grounded visual question answering, GVQA (Agrawal, Batra, Parikh and Kembhavi, CVPR 2018).

What can be seen and which answers are plausible are found apart, so that neither can stand in for the other::

    question ------> question classifier ----------------------------------------> is it to be answered by yes or no?
             |
             +-----> answer cluster predictor --> P(cluster) --+
             |                                                 * --> answer predictor --> answers but yes and no
             +-> its main words, -> visual concept classifier -+
    proposals -----------------------> P(concept) -------------+
                                                               * --> visual verifier --> yes, no
    question ------> concept extractor --> concept to verify --+

The *visual concept classifier* is a stacked attention network that looks by the main words, the question without its
type ("what color is the"), and then judges concepts by **what it saw alone**. Concepts are in clusters. A concept is
positive if question or answer name it, and then all others of its cluster are negative; clusters without a positive
teach nothing. The *answer predictor* reads which concepts are there, each times the probability that the answer is in
its cluster; the *visual verifier* reads them times an embedding of the concept to verify. Which of the two answers is
decided by the *question classifier*.

Each part is taught by its own loss. In the authors' code the parts are programs that read what the ones before have
written. Here all learn at once, but the loss of the answers ends at the same places: it does not reach the parts that
are read. For importance, and so for hints, gradients go through all of them.

The order of layers, and the products where the paper's figure joins two parts, are those of the authors' code (which is
for inference); ``sizes.hidden`` is the size of everything. Where code or paper need what we do not have, or leave room,
our choices:

- **concepts** are all answers but yes and no, and the 2,000 most frequent content words of train questions. The paper
  takes nouns and adjectives by a part-of-speech tagger; a content word is one that is not in a list of function words.
- **clusters**: answers are grouped by K-means, one cluster for twenty answers as in the paper (fifty for 998), on their
  GloVe vectors if the data were prepared with ``--glove``, else on how often they answer each question type. All
  concepts that only questions name make one more cluster, where the paper has one for objects.
- the **concept to verify** is the last content word of a question. If the answer is no, this concept is known to be
  absent: it is negative, and the rest of its cluster is not judged.
- the question type is the longest of the annotated types in train that a question begins with.
- answers have a sigmoid each, as in all networks here. Of the two branches, the one that is not chosen has its logits
  lowered by a constant, so that a wrong choice can be learned from.
"""

from updn_vqa.networks.gvqa.network import Gvqa

__all__ = ["Gvqa"]
