"""The zoo: small networks with random weights of every family, and what tracing should leave out of them.

Nothing is downloaded: transformers are built from configurations, all others without pretrained weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import zoo_custom as custom
from torch import Tensor, nn

Built = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        name: what the test is called.
        build: makes the model, and an example input: a tensor, or a tuple or dict of arguments.
        needs: the package it comes from.
        axis: of a floating input, the one that holds its channels.
        left_out: endings of the names that tracing leaves out, besides factors for each channel.
        channels: whether gradients tell each channel: not where a choice hides them.
        cut: pairs of layers that autograd joins by a tensor of which the second reads another part.
    """

    name: str
    build: Callable[[], Built]
    needs: str = "torch"
    axis: int = -1
    left_out: tuple[str, ...] = ()
    channels: bool = True
    cut: frozenset[tuple[str, str]] = frozenset()


def images(size: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size)


# -- torchvision


def _torchvision(name: str, size: int = 32, **options: Any) -> Callable[[], Built]:
    def build() -> Built:
        import torchvision

        return getattr(torchvision.models, name)(weights=None, num_classes=4, **options), images(size)

    return build


def _resnet(**options: Any) -> Callable[[], Built]:
    def build() -> Built:
        from torchvision.models.resnet import Bottleneck, ResNet

        return ResNet(Bottleneck, [2, 1, 1, 1], num_classes=4, **options), images(64)

    return build


def _densenet() -> Built:
    from torchvision.models import DenseNet

    return DenseNet(6, (2, 3, 2, 2), 8, bn_size=2, num_classes=4), images(64)


def _squeezenet() -> Built:
    from torchvision.models import SqueezeNet

    return SqueezeNet("1_1", num_classes=4), images(64)


def _convnext() -> Built:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 12, 2), CNBlockConfig(12, None, 2)], num_classes=4), images()


def _swin(second: bool) -> Built:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    options = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if second else {}
    return SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=4, **options), images()


def _vit() -> Built:
    from torchvision.models import VisionTransformer

    return VisionTransformer(16, 8, 2, 2, 12, 20, num_classes=4), images(16)


def _maxvit() -> Built:
    from torchvision.models import MaxVit

    return MaxVit((32, 32), 8, 4, [8, 12], [1, 1], 4, 0.0, num_classes=4), images()


TABLES = (
    "relative_position_bias_table",
    "pos_embed",
    "position_embeddings",
    "pos_embedding",
    "attention_biases",
)

TORCHVISION = [
    Entry(name, build, "torchvision", 1, TABLES)
    for name, build in [
        ("resnet18", _torchvision("resnet18", 64)),
        ("resnext", _resnet(groups=4, width_per_group=8)),
        ("wide_resnet", _resnet(width_per_group=96)),
        ("densenet", _densenet),
        ("googlenet", _torchvision("googlenet", 64, aux_logits=False, init_weights=False)),
        ("inception_v3", _torchvision("inception_v3", 80, aux_logits=False, init_weights=False)),
        ("mobilenet_v2", _torchvision("mobilenet_v2", 64, width_mult=0.25)),
        ("mobilenet_v3_small", _torchvision("mobilenet_v3_small", 64, width_mult=0.5)),
        ("efficientnet_b0", _torchvision("efficientnet_b0", 64)),
        ("regnet_y_400mf", _torchvision("regnet_y_400mf", 64)),
        ("shufflenet_v2_x0_5", _torchvision("shufflenet_v2_x0_5", 64)),
        ("squeezenet", _squeezenet),
        ("mnasnet0_5", _torchvision("mnasnet0_5", 64)),
        ("convnext", _convnext),
        ("maxvit", _maxvit),
        ("alexnet", _torchvision("alexnet", 64)),
    ]
]

TORCHVISION += [  # their functions read the layers' weights past the layers
    Entry("swin", lambda: _swin(False), "torchvision", 1, TABLES, channels=False),
    Entry("swin_v2", lambda: _swin(True), "torchvision", 1, TABLES, channels=False),
]
TORCHVISION.append(  # the head reads the class token, which no patch has made
    Entry("vit", _vit, "torchvision", 1, TABLES, cut=frozenset({("conv_proj", "heads.head")}))
)

# -- timm


def _timm(name: str, size: int, blocks: int | None = None, **options: Any) -> Callable[[], Built]:
    """With `blocks` only the first of the model's blocks, where timm does not take their number."""

    def build() -> Built:
        import timm

        model = timm.create_model(name, pretrained=False, num_classes=4, **options)
        if blocks:
            model.blocks = model.blocks[:blocks]
        return model, images(size)

    return build


# As few blocks of each kind as there can be: each is traced, and walked channel by channel.
_TOKENS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2}
TIMM = [
    Entry(f"timm-{name}", _timm(name, size, **options), "timm", 1, (*TABLES, "rel_pos_h", "rel_pos_w"))
    for name, size, options in [
        ("resnet10t", 64, {}),
        ("seresnet18", 64, {"layers": [2, 1, 1, 1]}),
        ("skresnet18", 64, {"layers": [2, 1, 1, 1]}),
        ("resnest14d", 64, {}),
        ("res2net50_14w_8s", 64, {"layers": [2, 1, 1, 1]}),
        ("efficientnet_lite0", 64, {}),
        ("mobilenetv3_small_050", 64, {}),
        ("mobilenetv4_conv_small", 64, {}),
        ("mixnet_s", 64, {}),
        ("ghostnet_050", 64, {}),
        ("regnetx_002", 64, {}),
        ("repvgg_a0", 64, {}),
        ("convnext_atto", 64, {"depths": (1, 1, 2, 1)}),
        ("convnextv2_atto", 64, {"depths": (1, 1, 2, 1)}),
        ("vit_tiny_patch16_224", 32, {**_TOKENS, "num_heads": 2}),
        ("cait_xxs24_224", 32, {**_TOKENS, "num_heads": 2}),
        ("mixer_s32_224", 64, {"img_size": 64, "blocks": 2}),
        ("gmlp_s16_224", 32, {"img_size": 32, "blocks": 2}),
        ("resmlp_12_224", 32, {"img_size": 32, "blocks": 2}),
        ("poolformer_s12", 64, {}),
        ("levit_128s", 224, {"depth": (1, 2, 1)}),
        ("mobilevit_xxs", 64, {}),
        ("edgenext_xx_small", 64, {"depths": (1, 2, 2, 2)}),
        ("dla34", 64, {}),
        ("hrnet_w18_small", 64, {}),
        ("vovnet39a", 64, {}),
        ("pvt_v2_b0", 64, {"depths": (1, 1, 2, 1)}),
        ("fastvit_t8", 64, {"layers": (1, 1, 2, 1)}),
        ("rexnet_100", 64, {}),
        ("inception_next_atto", 64, {"depths": (1, 1, 2, 1)}),
        ("darknet17", 64, {}),
        ("starnet_s1", 64, {"depths": [1, 1, 2, 1]}),
        ("nf_regnet_b0", 64, {}),
    ]
]

TIMM.append(
    Entry(
        "timm-beit_base_patch16_224",
        _timm("beit_base_patch16_224", 32, **_TOKENS, num_heads=2),
        "timm",
        1,
        TABLES,
        channels=False,
    )
)

# -- transformers

_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_CROSS: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}


def _transformer(
    model: str, config: str, inputs: Callable[[], dict[str, Any]], **options: Any
) -> Callable[[], Built]:
    def build() -> Built:
        import transformers

        made = getattr(transformers, model)(getattr(transformers, config)(**options))
        made.config.use_cache = False
        return made, inputs()

    return build


def _text() -> dict[str, Any]:
    ids = custom.tokens(2, 7, count=40)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _texts() -> dict[str, Any]:
    return {"input_ids": custom.tokens(2, 7, count=40), "decoder_input_ids": custom.tokens(2, 5, count=40)}


def _speech() -> dict[str, Any]:
    return {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": custom.tokens(2, 5, count=40)}


TRANSFORMERS = [
    Entry(f"transformers-{name}", _transformer(model, config, inputs, **options), "transformers", 1, left_out)
    for name, model, config, inputs, options, left_out in [
        ("bert", "BertForSequenceClassification", "BertConfig", _text, _SIZES, ()),
        ("gpt2", "GPT2LMHeadModel", "GPT2Config", _text, {**_SIZES, "n_positions": 16}, ()),
        ("llama", "LlamaForCausalLM", "LlamaConfig", _text, {**_SIZES, "num_key_value_heads": 1}, ()),
        (
            "t5",
            "T5ForConditionalGeneration",
            "T5Config",
            _texts,
            {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 40},
            (),
        ),
        (
            "vit",
            "ViTForImageClassification",
            "ViTConfig",
            lambda: {"pixel_values": images(16)},
            {**_SIZES, "image_size": 16, "patch_size": 8},
            TABLES,
        ),
        (
            "whisper",
            "WhisperModel",
            "WhisperConfig",
            _speech,
            {**_CROSS, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 16},
            ("decoder.embed_positions",),
        ),
    ]
]


def _lora() -> Built:
    import peft
    import transformers

    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZES))
    base.config.use_cache = False
    adapters = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    return peft.get_peft_model(base, adapters), _text()


ADAPTED = [Entry("peft-lora", _lora, "peft", 1)]

# -- our own


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


_HIDDEN = ("weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse")
noise = torch.randn
CUSTOM = [
    Entry("u-net", lambda: (custom.UNet(), images(8)), axis=1),
    Entry("autoencoder", lambda: (custom.AutoEncoder(), images(16, 1)), axis=1),
    Entry("variational", lambda: (custom.Variational(), noise(2, 9))),
    Entry("conv1d", lambda: (custom.Conv1dNet(), noise(2, 2, 40)), axis=1),
    Entry("conv3d", lambda: (custom.Conv3dNet(), noise(2, 1, 6, 6, 6)), axis=1),
    Entry("lstm-head", lambda: (custom.LstmHead(), noise(2, 7, 5)), left_out=_HIDDEN),
    Entry("gru-packed", lambda: (custom.GruOfPacked(), noise(4, 2, 5)), left_out=_HIDDEN),
    Entry(
        "seq2seq",
        lambda: (custom.Translator(), (custom.tokens(2, 5), custom.tokens(2, 4))),
        left_out=("encoder.weight_hh_l0",),
    ),
    Entry("gru-cell", lambda: (custom.Cells(), noise(2, 3, 3))),
    Entry("experts", lambda: (custom.Experts(), noise(12, 5)), channels=False),
    Entry("experts-stacked", lambda: (custom.Stacked(True), noise(2, 4)), left_out=("experts",)),
    Entry("experts-sliced", lambda: (custom.Stacked(False), noise(2, 4))),
    Entry("weight-tying", lambda: (custom.Tied(), custom.tokens(2, 5))),
    Entry("shared-layer", lambda: (custom.Shared(), noise(2, 4))),
    Entry("encoder", lambda: (_encoder(), noise(2, 3, 8))),
    Entry(
        "encoder-decoder",
        lambda: (nn.Transformer(8, 2, 1, 1, 12, batch_first=True), (noise(2, 3, 8), noise(2, 4, 8))),
    ),
    Entry(
        "attention-separate",
        lambda: (custom.SeparateAttention(), (noise(2, 3, 4), noise(2, 5, 3), noise(2, 5, 5))),
    ),
    Entry("attention-einsum", lambda: (custom.EinsumAttention(), noise(2, 3, 5))),
    Entry(
        "dict-forward",
        lambda: (custom.DictIn(), ({"image": noise(2, 3, 5, 5), "table": noise(2, 5)},)),
        axis=1,
    ),
    Entry("in-place", lambda: (custom.InPlace(), noise(2, 2, 4, 4)), axis=1),
    Entry("views", lambda: (custom.Views(), noise(2, 3, 4, 4)), axis=1),
    Entry("data-dependent", lambda: (custom.DataDependent(), noise(2, 4)), left_out=("left",)),
    Entry("groups", lambda: (custom.Groups(), noise(2, 3, 5, 5)), axis=1),
    Entry("spectrum", lambda: (custom.Spectrum(), noise(2, 4))),
    Entry("bilinear", lambda: (custom.Bilinear(), noise(2, 3)), left_out=("join",)),
    Entry("gated", lambda: (custom.Gated(), noise(2, 4))),
    Entry("residual", lambda: (custom.Residual(), noise(2, 3))),
    Entry("embedding-bag", lambda: (custom.Bag(), custom.tokens(3, 4))),
    Entry("parametrised", lambda: (custom.Parametrised(), noise(2, 2, 8, 8)), axis=1),
]

ZOO = [*CUSTOM, *TORCHVISION, *TIMM, *TRANSFORMERS, *ADAPTED]
