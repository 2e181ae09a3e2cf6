"""One picture explained from Python and from the command line, and maps of other libraries scored."""

import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image
from skimage.data import astronaut, chelsea, coffee

import refinecam
from refinecam import RefineCAM, explain, score
from refinecam.attribution import GradCAM, LayerCAM
from refinecam.cli import main
from refinecam.commands import explain_pictures, list_layers
from refinecam.core.errors import InputError
from refinecam.metrics.functional import arcc, cosine_similarity, road
from refinecam.models import load_network


@pytest.fixture(scope="module")
def network():
    return load_network("imagenet-efficientnet_lite0")


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(chelsea()).save(tmp_path / "cat.jpg", quality=95)
    Image.fromarray(coffee()).convert("L").save(tmp_path / "cup.png")
    return tmp_path


def test_picture_is_explained_at_its_own_resolution(network, folder):
    made = explain(network, folder / "cat.jpg")
    assert (made.picture.shape, made.map.shape, made.overlay.size) == ((300, 451, 3), (300, 451), (451, 300))
    cam = "LayerCAM(activations='rectified')"
    assert list(made.maps) == [f"{cam}, stage -1", f"RefineCAM({cam}), stage 0, product"]
    assert made.name in ("tabby", "tiger cat", "Egyptian cat")
    assert made.top[0][:2] == (made.target, made.name)
    assert 0 <= made.map.min() <= made.map.max() <= 1
    assert made.scores.loc[f"{cam}, stage -1", "arcc"] > 0.3
    assert {"road", "coherency", "adcc", "average_drop"} < set(made.scores)


def test_maps_and_scores_are_those_of_the_parts(network, folder):
    """Of a picture as large as the network's input, which is neither resized nor cut."""
    picture = Image.open(folder / "cat.jpg").resize((224, 224))
    image = timm.data.create_transform((3, 224, 224), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1)(picture)[None]
    made, cam = explain(network, picture, 282), RefineCAM(LayerCAM(activations="rectified"))
    maps = cam(network, image, 282)
    np.testing.assert_allclose(made.map, maps[0, 0].numpy(), atol=1e-4)
    from_tensor = explain(network, image, 282)
    assert from_tensor.scores["arcc"].iloc[1] == pytest.approx(arcc(network, image, 282, maps, cam).item(), abs=1e-5)
    np.testing.assert_allclose(from_tensor.map, made.map, atol=1e-4)
    np.testing.assert_allclose(from_tensor.picture, np.array(picture), atol=1)


def test_crop_is_where_the_network_looks(network):
    """A picture that is wider than high: nothing is said of its sides."""
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, 150:250] = astronaut()[:100, 150:250]
    made = explain(network, Image.fromarray(wide), crop=True, scores=None, methods="LayerCAM")
    marked = np.nonzero(made.map.max(0))[0]
    assert 155 <= marked.min() < marked.max() < 245  # 224 of 256 of the height
    assert made.scores.empty


@pytest.mark.parametrize(
    ("target", "expected"),
    [(None, 285), (5, 5), (np.int64(5), 5), ("5", 5), ("Tiger cat", 282), ("tiger_shark", 3), ("n02066245", 147)],
)
def test_target_by_number_or_name(target, expected, network, folder):
    assert explain(network, folder / "cat.jpg", target, "GradCAM", None).target == expected


def test_what_cannot_be_explained(network, folder):
    cases = [
        ({"target": 1000}, "target: class 1000 is not one of the network's 1000 classes"),
        ({"target": "terrier"}, r"target: \d+ classes have 'terrier' in their names: .*; give a number"),
        ({"target": "unicorn"}, "target: no class is named 'unicorn'; close to it: "),
        ({"methods": []}, "methods: expected at least one"),
        ({"methods": [LayerCAM(network.blocks[0]), LayerCAM(network.blocks[1])]}, "stage Sequential' is there twice"),
        ({"methods": [LayerCAM]}, "methods: expected at least one, such as .*LayerCAM"),
        ({"image": np.zeros((4, 4, 3))}, "image: expected an array of uint8"),
        ({"classes": ["a", "b"]}, "classes: the network has 1000, got 2 names"),
        ({"image": folder / "none.jpg"}, "image: .*none.jpg cannot be read"),
        ({"image": torch.rand(2, 3, 224, 224)}, r"image: expected one, got a tensor \(2, 3, 224, 224\)"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            explain(network, **{"image": folder / "cat.jpg", **options})


def test_maps_of_any_library_are_scored(tiny_net, images, targets):
    maps, masks = torch.rand(5, 1, 24, 32), (torch.rand(5, 1, 24, 32) > 0.5).float()
    cam = GradCAM("deep")
    table = score(tiny_net, images, targets.numpy(), {"random": maps[:, 0].numpy(), "cam": maps}, {"cam": cam}, masks)
    assert table["method"].tolist() == ["random"] * 5 + ["cam"] * 5
    assert table["image"].tolist() == [*range(5)] * 2
    of_random = table[table["method"] == "random"].reset_index()
    torch.testing.assert_close(torch.tensor(of_random["road"]).float(), road(tiny_net, images, targets, maps))
    torch.testing.assert_close(torch.tensor(of_random["cosine_similarity"]).float(), cosine_similarity(maps, masks))
    assert of_random["arcc"].isna().all()  # it would ask the method
    of_cam = table[table["method"] == "cam"].reset_index()
    torch.testing.assert_close(torch.tensor(of_cam["arcc"]).float(), arcc(tiny_net, images, targets, maps, cam))
    with pytest.raises(InputError, match="method: with several maps say what made each"):
        score(tiny_net, images, targets, {"a": maps, "b": maps}, cam)
    with pytest.raises(InputError, match="method: there are no maps named c; there are a"):
        score(tiny_net, images, targets, {"a": maps}, {"c": cam})
    alone = score(tiny_net, images, None, maps, scores="complexity")
    assert list(alone) == ["image", "method", "complexity"]


def test_names_are_at_hand():
    assert refinecam.RefineCAM is RefineCAM
    assert refinecam.load_network is load_network
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        _ = refinecam.explian


def test_command_writes_figure_overlays_maps_and_table(folder, capsys):
    (folder / "broken.jpg").write_text("no picture")
    output = folder / "out"
    args = [str(folder), "--methods", "LayerCAM, InputXGradient", "--output", str(output)]
    assert explain_pictures(args) == 1
    shown = capsys.readouterr()
    assert "error: image: " in shown.err
    assert "broken.jpg cannot be read" in shown.err
    assert sorted(path.name for path in output.glob("*.png")) == ["cat.png", "cup.png"]
    table = pd.read_csv(output / "summary.csv")
    assert list(table)[:3] == ["picture", "target", "method"]
    assert len(table) == 6  # two pictures, LayerCAM alone and refined, and InputXGradient
    maps = sorted(output.glob("cat/*.npy"))
    assert len(maps) == 3
    assert all(np.load(path).shape == (300, 451) for path in maps)
    assert all(Image.open(path).size == (451, 300) for path in output.glob("cat/*.png"))


def test_command_draws_a_refined_form_once(folder):
    args = [str(folder / "cup.png"), "--methods", "LayerCAM, LayerCAM(stage=0), RefineCAM(LayerCAM)", "--no-scores"]
    assert explain_pictures([*args, "--output", str(folder / "once")]) == 0
    assert len(list((folder / "once/cup").glob("*.npy"))) == 3


def test_command_explains_several_targets(folder):
    args = [str(folder / "cat.jpg"), "--target", "top2", "--no-scores", "--methods", "GradCAM", "--output"]
    assert explain_pictures([*args, str(folder / "out")]) == 0
    assert len(list((folder / "out").glob("cat.*.png"))) == 2
    assert list(pd.read_csv(folder / "out/summary.csv")) == ["picture", "target", "method"]
    args[2] = "top7"
    explain_pictures([*args, str(folder / "seven")])
    assert len(list((folder / "seven").glob("cat.*.png"))) == 7
    args[2] = "espresso"
    explain_pictures([*args, str(folder / "other")])
    assert (folder / "other/cat.png").exists()


def test_command_takes_networks_and_layers(folder):
    more = ["--model", "tests.models.test_foreign.own_network", "--layers", "layer2, layer4", "--no-scores"]
    more += ["--methods", "LayerCAM"]
    assert explain_pictures([str(folder / "cup.png"), *more, "--output", str(folder / "out")]) == 0
    assert (folder / "out/cup/LayerCAM_stage_layer4.png").exists()
    assert (folder / "out/cup/RefineCAM(LayerCAM_layer2_layer4)_stage_0_product.npy").exists()
    torch.save(torchvision.models.resnet18(num_classes=1000).state_dict(), folder / "w.pth")
    more = ["--model", "torchvision.models.resnet18", "--checkpoint", str(folder / "w.pth"), "--no-scores"]
    assert explain_pictures([str(folder / "cup.png"), *more, "--output", str(folder / "other")]) == 0


def test_layers_are_listed(capsys):
    list_layers(["resnet18"])
    shown = capsys.readouterr().out
    assert "| layer3  | NCHW     |        256 | 14x14 |" in shown
    list_layers(["torchvision.models.vit_b_32", "--all"])
    shown = capsys.readouterr().out
    assert "1+tokens" in shown
    assert "\nencoder.layers.encoder_layer_3.mlp\n" in shown


def test_commands_by_name(monkeypatch, folder):
    monkeypatch.setattr(
        sys, "argv", ["refinecam", "explain", str(folder / "none.jpg"), "--output", str(folder / "out")]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    monkeypatch.setattr(sys, "argv", ["refinecam", "explain", str(folder / "cat.jpg"), "--methods", "GradCan"])
    with pytest.raises(SystemExit, match="error: methods: there is no 'GradCan'; did you mean GradCAM"):
        main()
