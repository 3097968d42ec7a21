"""A small rendered world under changing priors that writes official file formats.

>>> import numpy as np
>>> from shapes_cp.proposals import propose
>>> from shapes_cp.render import render
>>> from shapes_cp.scene import UNIFORM_PRIORS, sample_scene
>>> rng = np.random.default_rng(0)
>>> scene = sample_scene(rng, UNIFORM_PRIORS, cue=0.8)
>>> scene.question.text, scene.question.answer
('Is the moon blue?', 'yes')
>>> render(scene, rng).shape, propose(scene, rng).shape
((128, 128, 3), (36, 4))
"""
