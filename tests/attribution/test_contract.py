"""What every method keeps to: batches, modes, precision, an untouched model, bad input."""

import contextlib
import copy

import pytest
import torch

from refinecam.attribution import (
    LIME,
    DeepLift,
    GradCAM,
    GradCAMPlusPlus,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    LayerCAM,
    RefineCAM,
    ScoreCAM,
    ShapleyCAM,
)
from tests.conftest import AwkwardNet, TinyNet


@pytest.mark.parametrize(
    "cam",
    [
        GradCAM(),
        GradCAMPlusPlus(),
        LayerCAM("stem"),
        ScoreCAM(chunk=7),
        ShapleyCAM(),
        GuidedGradCAM("stem"),
        RefineCAM(LayerCAM(), layers=["stem", "deep"]),
        RefineCAM(ScoreCAM(), "inverse_exp_mean", layers=["stem", "deep"]),
        InputXGradient(),
        IntegratedGradients(steps=5, chunk=7),
        DeepLift(),
        LIME(samples=40, segments=8, chunk=7, alpha=1e-5),
        KernelSHAP(samples=40, segments=8, chunk=7),
    ],
    ids=repr,
)
class TestContract:
    @pytest.fixture(params=[TinyNet, AwkwardNet])
    def tiny_net(self, request):
        torch.manual_seed(0)
        return request.param().eval()

    @pytest.fixture(autouse=True)
    def _last_stage(self, cam):
        if getattr(cam, "stage", None) == -1:
            cam.stage = "deep"

    @pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
    def _threads(self, request):
        before = torch.get_num_threads()
        torch.set_num_threads(request.param)
        yield
        torch.set_num_threads(before)

    @pytest.mark.usefixtures("_threads")
    def test_batch_equals_its_samples(self, cam, tiny_net, images, targets):
        together = cam(tiny_net, images, targets)
        alone = torch.cat([cam(tiny_net, images[i : i + 1], targets[i : i + 1]) for i in range(len(images))])
        assert together.shape == (5, 1, 24, 32)
        assert together.amin((1, 2, 3)).eq(0).all()
        assert together.amax((1, 2, 3)).eq(1).all()
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_training_mode_and_no_grad_do_not_matter(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        tiny_net.train()
        with torch.no_grad():
            assert torch.equal(cam(tiny_net, images, targets), expected)
        assert all(module.training for module in tiny_net.modules())

    def test_frozen_model_gives_the_same_map(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        tiny_net.requires_grad_(False)
        torch.testing.assert_close(cam(tiny_net, images, targets), expected)
        assert not any(p.requires_grad for p in tiny_net.parameters())

    @pytest.mark.parametrize("trouble", ["none", "wrong target", "failing forward", "failing later forward"])
    def test_leaves_no_trace(self, cam, tiny_net, images, targets, trouble):
        tiny_net.deep.train()
        given, names = images.clone(), [set(vars(module)) | {"forward"} for module in tiny_net.modules()]
        random = torch.get_rng_state()
        before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
        if trouble == "wrong target":
            with pytest.raises(ValueError, match="targets: class 9 is not one of the model's 6 classes"):
                cam(tiny_net, images, torch.tensor([0, 9, 0, 0, 0]))
        elif trouble == "failing forward":
            tiny_net.head.forward = lambda x: 1 / 0
            with pytest.raises(ZeroDivisionError):
                cam(tiny_net, images, targets)
        elif trouble == "failing later forward":
            whole, calls = tiny_net.head.forward, []
            tiny_net.head.forward = lambda x: whole(x) if calls.append(1) or len(calls) < 3 else 1 / 0
            with contextlib.suppress(ZeroDivisionError):  # some need no more than two
                cam(tiny_net, images, targets)
        else:
            cam(tiny_net, images, targets)
        for module in tiny_net.modules():
            for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
                assert not getattr(module, hooks)
        assert [set(vars(module)) | {"forward"} for module in tiny_net.modules()] == names
        assert torch.equal(images, given)
        assert torch.equal(torch.get_rng_state(), random)
        assert tiny_net.stem[2].inplace
        assert tiny_net.deep[1].inplace
        assert tiny_net.deep.training
        assert not tiny_net.stem.training
        assert all(p.requires_grad and p.grad is None for p in tiny_net.parameters())
        assert all(torch.equal(v, before[k]) for k, v in tiny_net.state_dict().items())

    def test_inference_mode_is_refused_where_gradients_are_needed(self, cam, tiny_net, images, targets):
        if any(name in repr(cam) for name in ("ScoreCAM", "LIME", "KernelSHAP")):
            expected = cam(tiny_net, images, targets)
            with torch.inference_mode():
                torch.testing.assert_close(cam(tiny_net, images, targets), expected)
            return
        with torch.inference_mode(), pytest.raises(ValueError, match=r"Trainer\(inference_mode=False\)"):
            cam(tiny_net, images, targets)

    def test_one_bad_image_spoils_only_its_own_map(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        images = images.clone()
        images[0, :, 2:20, 3:28] = torch.nan
        maps = cam(tiny_net, images, targets)
        torch.testing.assert_close(maps[1:], expected[1:])
        assert not maps[0].isfinite().all()

    def test_half_precision_and_channels_last(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        last = copy.deepcopy(tiny_net).to(memory_format=torch.channels_last)
        found = cam(last, images.contiguous(memory_format=torch.channels_last), targets)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            found = cam(tiny_net, images, targets)
        assert found.dtype == torch.float32
        both = torch.stack([found.flatten(), expected.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.9

    def test_empty_batch(self, cam, tiny_net, images, targets):
        assert cam(tiny_net, images[:0], targets[:0]).shape == (0, 1, 24, 32)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (torch.zeros(5), "targets: expected an int64 tensor"),
            (torch.zeros(4, dtype=torch.int64), "targets: expected an int64 tensor"),
            (torch.tensor([0, 0, 0, 0, -1]), "targets: class -1 is not one of"),
        ],
    )
    def test_bad_target(self, cam, tiny_net, images, target, message):
        with pytest.raises(ValueError, match=message):
            cam(tiny_net, images, target)

    def test_bad_image(self, cam, tiny_net, targets):
        with pytest.raises(ValueError, match="images: expected a float tensor"):
            cam(tiny_net, torch.zeros(5, 3, 24, 32, dtype=torch.uint8), targets)
