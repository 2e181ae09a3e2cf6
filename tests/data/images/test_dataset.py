"""Pictures become what the network's own transform makes of them, whatever their mode, and masks with them."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from skimage.data import astronaut

from refinecam.core.errors import InputError
from refinecam.data import ImagesDataModule
from refinecam.data.pictures import read_rgb

RAMP = np.linspace(0, 1, 48 * 64).reshape(48, 64)


@pytest.fixture
def root(tmp_path):
    picture = Image.fromarray(astronaut())
    for i, (name, box) in enumerate({"cat": (0, 0, 300, 260), "dog": (100, 50, 500, 512)}.items()):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        picture.crop(box).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def batch_of(root, **options):
    data = ImagesDataModule(root=str(root), batch_size=8, **options)
    (batch,) = data.test_dataloader()
    return batch


@pytest.mark.parametrize("backbone", ["resnet18", "vgg11", "swin_tiny_patch4_window7_224", "tf_efficientnet_lite0"])
def test_images_are_those_of_timms_transform(backbone, root):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(backbone).to_dict())
    expected = [timm.data.create_transform(**config)(Image.open(p)) for p in sorted(root.glob("*/*"))]
    batch = batch_of(root, backbone=backbone)
    torch.testing.assert_close(batch["image"], torch.stack(expected))
    assert (batch["label"].tolist(), batch["index"].tolist()) == ([0, 1], [0, 1])
    assert batch["file"] == ["cat/0.png", "dog/1.png"]


def test_transform_can_be_another(root):
    config = {"input_size": (3, 64, 64), "crop_pct": 0.8, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    expected = timm.data.create_transform(**config, interpolation="bilinear")
    options = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "crop_pct": 0.8, "interpolation": "bilinear"}
    batch = batch_of(root, image_size=64, **options)
    torch.testing.assert_close(batch["image"][0], expected(Image.open(root / "cat/0.png")))
    whole = batch_of(root, image_size=64, crop=False, **options)["image"][0]
    resized = np.array(Image.open(root / "cat/0.png").resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    torch.testing.assert_close(whole, (torch.from_numpy(resized) / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("white", [255, 1, 65535, "palette"])
def test_masks_go_with_their_pictures(white, root, tmp_path):
    kind = np.uint16 if white == 65535 else np.uint8
    for file in root.glob("*/*"):
        path = tmp_path / "masks" / file.parent.name / file.name
        path.parent.mkdir(parents=True)
        red = np.array(Image.open(file))[..., 0] > 128
        mask = Image.fromarray(red.astype(kind) * kind(7 if white == "palette" else white))
        if white == "palette":
            mask = mask.convert("P")
            mask.putpalette([0, 0, 0] * 7 + [30, 0, 0] * 249)
        mask.save(path)
    batch = batch_of(root, masks=str(tmp_path / "masks"), mean=(0, 0, 0), std=(1, 1, 1), interpolation="nearest")
    assert batch["mask"].shape == (2, 1, 224, 224)
    assert torch.equal(batch["mask"], (batch["image"][:, :1] > 128.5 / 255).float())


def test_masks_that_do_not_fit(root, tmp_path):
    masks = tmp_path / "masks"
    with pytest.raises(InputError, match="masks: there is no folder"):
        batch_of(root, masks=str(masks))
    (masks / "cat").mkdir(parents=True)
    Image.new("L", (10, 10)).save(masks / "cat/0.png")
    with pytest.raises(InputError, match=r"masks: 1 of 2 pictures have none, the first is .*dog/1.png"):
        batch_of(root, masks=str(masks))
    (masks / "dog").mkdir()
    Image.new("L", (400, 462)).save(masks / "dog/1.png")
    with pytest.raises(InputError, match=r"masks: .*cat/0.png has 10x10 pixels, its picture 300x260"):
        batch_of(root, masks=str(masks))
    (masks / "cat/0.png").write_bytes(b"broken")
    batch = batch_of(root, masks=str(masks))
    assert batch["file"] == ["dog/1.png"]
    assert batch["skipped"][0]["file"] == "cat/0.png"


def test_broken_pictures_are_named(root):
    whole = (root / "cat/0.png").read_bytes()
    (root / "cat/1.png").write_bytes(whole[:2000])
    (root / "cat/2.png").write_bytes(b"")
    (root / "cat/3.jpg").write_text("<html>")
    batch = batch_of(root)
    assert [entry["file"] for entry in batch["skipped"]] == ["cat/1.png", "cat/2.png", "cat/3.jpg"]
    assert [entry["index"] for entry in batch["skipped"]] == [1, 2, 3]
    assert batch["index"].tolist() == [0, 4]
    with pytest.raises(InputError, match=r"root: .*cat/1.png cannot be read .*skip such files"):
        batch_of(root, on_error="stop")


def save(path, mode):
    deep = np.round(RAMP * 65535).astype(np.uint16)
    made = {
        "I;16": lambda: Image.fromarray(deep),
        "I": lambda: Image.fromarray(deep.astype(np.int32)),
        "F": lambda: Image.fromarray(RAMP.astype(np.float32)),
        "L": lambda: Image.fromarray(np.round(RAMP * 255).astype(np.uint8)),
    }
    made["P"] = lambda: made["L"]().quantize(256)
    image = made.get(mode, lambda: made["L"]().convert("RGB").convert(mode))()
    image.save(path)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[("L", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("I;16", "png"), ("I;16", "tif"), ("I", "tif")],
        *[("F", "tif"), ("CMYK", "jpg"), ("RGB", "jpg"), ("RGB", "webp"), ("P", "gif"), ("RGB", "jfif")],
    ],
)
def test_every_mode_has_its_colors(mode, suffix, tmp_path):
    path = tmp_path / f"picture.{suffix}"
    save(path, mode)
    lossy = suffix in ("jpg", "jfif", "webp", "gif") or mode == "P"
    np.testing.assert_allclose(read_rgb(path, "root", "").mean(2), RAMP * 255, atol=12 if lossy else 1)


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(astronaut()[:100]).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg", "root", "").shape == (512, 100, 3)
