"""Grounded visual question answering, GVQA (Agrawal, Batra, Parikh and Kembhavi, CVPR 2018).

Separate parts find what is in the image and which answers are plausible, so that neither can replace the other::

    question ------> question classifier ----------------------------------------> is it to be answered by yes or no?
             |
             +-----> answer cluster predictor --> P(cluster) --+
             |                                                 * --> answer predictor --> answers but yes and no
             +-> its main words, -> visual concept classifier -+
    proposals -----------------------> P(concept) -------------+
                                                               * --> visual verifier --> yes, no
    question ------> concept extractor --> concept to verify --+

The *visual concept classifier* is a stacked attention network. Its attention reads the main words, which are the
question without its type ("what color is the"); concepts are then classified from **the attended proposals alone**.
Concepts are in clusters. A concept is positive if question or answer name it, and then all others of its cluster are
negative; clusters without a positive have no loss. The *answer predictor* reads the probability of each concept times
the probability that the answer is in its cluster; the *visual verifier* reads the concepts times an embedding of the
concept to verify. The *question classifier* decides between these two.

Each part has its own loss. In the authors' code the parts are programs that read the files of the parts before them.
Here all parts learn at once, but the loss of the answers ends at the same places: it does not reach the parts whose
outputs are read. For importance, and so for hints, gradients go through all of them.

The order of layers, and the products where the paper's figure joins two parts, are those of the authors' code (which is
for inference); ``sizes.hidden`` is the size of all layers. Where code or paper leave room, or need data that we do not
have, we chose:

- **concepts** are all answers except yes and no, and the 2,000 most frequent content words of train questions. The
  paper takes nouns and adjectives by a part-of-speech tagger; here, words in a list of function words are left out.
- **clusters**: answers are grouped by K-means, one cluster for twenty answers as in the paper (fifty for 998), on their
  GloVe vectors if the data were prepared with ``--glove``, else on how often they answer each question type. All
  concepts that only questions name make one more cluster, where the paper has one for objects.
- the **concept to verify** is the last content word of a question. If the answer is no, this concept is known to be
  absent: it is negative, and the rest of its cluster has no loss.
- the question type is the longest of the annotated types in train that a question begins with.
- each answer has a sigmoid, as in all networks here. The branch that is not chosen has its logits lowered by a
  constant, so that the network can learn from a wrong choice.
"""

from updn_vqa.networks.gvqa.network import Gvqa

__all__ = ["Gvqa"]
