import pytest
import torch
from torch import nn

from refinecam.attribution.capture import record_layers, recorded_outputs
from refinecam.core.errors import InputError


class Twice(nn.Module):
    """A layer that runs twice, one that never runs, one without influence, and an in-place ReLU behind the first."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.unused, self.idle, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)

    def forward(self, x):
        x = self.relu(self.conv(self.relu(self.conv(x))))
        self.idle(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Twice().eval()


def by_hand(model, image, target):
    """The second run of the convolution, before the in-place ReLU, and the gradient of the target's logit there."""
    weight, bias = model.conv.weight.detach(), model.conv.bias.detach()
    first = nn.functional.conv2d(image, weight, bias, padding=1).relu()
    activation = nn.functional.conv2d(first, weight, bias, padding=1).requires_grad_()
    logits = activation.relu().mean((2, 3)) @ model.head.weight.T.detach() + model.head.bias.detach()
    scores = logits.gather(1, target[:, None]).sum()
    return activation.detach(), torch.autograd.grad(scores, activation)[0]


@pytest.mark.parametrize("frozen", [False, True])
def test_record_is_the_activation_and_gradient_of_the_last_run(model, frozen):
    model.requires_grad_(not frozen)
    image, target = torch.randn(2, 3, 8, 8), torch.tensor([1, 3])
    (record,) = record_layers(model, image, target, ["conv"])
    activation, gradient = by_hand(model, image, target)
    torch.testing.assert_close(record.activation, activation)
    torch.testing.assert_close(record.gradient, gradient)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad is not frozen for parameter in model.parameters())


@pytest.mark.parametrize(
    ("layer", "message"),
    [("unused", "layer 'unused' did not run"), ("idle", "does not depend on one of the layers idle")],
)
def test_a_layer_without_a_record_is_named(model, layer, message):
    with pytest.raises(InputError, match=message):
        record_layers(model, torch.randn(1, 3, 8, 8), torch.tensor([0]), [layer])
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_a_failing_forward(model):
    def failing():
        with recorded_outputs(model, ["conv", "relu"]):
            assert model.conv._forward_hooks
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert not any(module._forward_hooks for module in model.modules())
