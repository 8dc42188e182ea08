"""torch's compiler: each module has graphs of its own, and what it changes of modules is found by others."""

import torch
from jsonargparse import ArgumentParser
from torch import nn

from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.seam.compiler import compiled


class _Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def times(self, x):
        return self.factor * x


def test_many_modules_have_graphs_of_their_own():
    made = []
    for factor in range(20):  # of one code there would be eight
        module = _Scale(factor)
        run = compiled(_Scale.times, module, "default", lambda graph, _: made.append(1) or graph.forward, dynamic=False)
        assert run(torch.ones(2)).sum() == 2 * factor
    assert len(made) == 20


def test_commands_are_read_as_before_once_something_was_compiled():
    compiled(_Scale.times, _Scale(2), "default", "eager", dynamic=False)(torch.ones(2))
    parser = ArgumentParser()
    parser.add_class_arguments(MonotonePostProcessor, "post_processor")
    assert parser.parse_args(["--post_processor.image_sensitivity", "0.9"]).post_processor.image_sensitivity == 0.9
