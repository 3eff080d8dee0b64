"""Loading and converting Keras networks: safely, in inference mode, with clear refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.export.networks import KERAS_WARNING, build_network, stir
from wetread.errors import ExportError
from wetread.export import quantize
from wetread.export.description import draw_probes
from wetread.export.keras_to_onnx import build_graph, compare_with_keras
from wetread.export.network import (
    convert_network,
    load_network,
    predict_network,
    scale_pixels,
    wrap_network,
)
from wetread.export.ranges import collect_histograms
from wetread.export.selftest import choose_inputs
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.golden_inputs import draw_image
from wetread.runtime.model.spec import ModelSpec

SPEC = ModelSpec(labels=("a", "b", "c"), pixels=PixelRecipe(height=16, width=16, color="rgb"))

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


def measure(model, spec: ModelSpec = SPEC) -> tuple[float, float]:
    """The largest difference from Keras, at batch 1 and 5, and how much Keras' answers vary."""
    wrapped = wrap_network(model, spec.pixels.shape)
    images = draw_probes(spec)
    keras = predict_network(wrapped, images, spec)
    return compare_with_keras(build_graph(wrapped, spec), spec, images, keras), float(keras.std(axis=0).max())


def kinds():
    """Layer kinds by name: image to features."""
    from keras import layers as kl

    def tokens(x):
        return kl.Reshape((-1, 8))(kl.Conv2D(8, 3, strides=4)(x))

    def squeeze(x):
        c = kl.Conv2D(8, 3)(x)
        gate = kl.Dense(8, activation="sigmoid")(kl.GlobalAveragePooling2D()(c))
        return kl.Multiply()([c, kl.Reshape((1, 1, 8))(gate)])

    def pool_by_attention(x):
        t = tokens(x)
        return kl.Dot(1)([kl.Softmax(axis=1)(kl.Dense(1)(t)), t])

    def randoms(x):
        for layer in (
            kl.RandomContrast(0.3),
            kl.RandomFlip(),
            kl.RandomRotation(0.2),
            kl.RandomZoom(0.2),
            kl.RandomTranslation(0.1, 0.1),
        ):
            x = layer(x)
        return kl.BatchNormalization()(kl.Conv2D(8, 3)(x))

    return {
        "convolution": lambda x: kl.Conv2D(8, 3, strides=2, padding="same")(x),
        "separable": lambda x: kl.SeparableConv2D(8, 3)(x),
        "depthwise": lambda x: kl.DepthwiseConv2D(3, depth_multiplier=2)(x),
        "dilated": lambda x: kl.Conv2D(8, 3, dilation_rate=2)(x),
        "transposed": lambda x: kl.Conv2DTranspose(8, 3, strides=2, padding="same")(x),
        "grouped": lambda x: kl.Conv2D(9, 3, groups=3)(x),
        "batch-norm": lambda x: kl.BatchNormalization()(kl.Conv2D(8, 3)(x)),
        "layer-norm": lambda x: kl.LayerNormalization()(kl.Conv2D(8, 3)(x)),
        "group-norm": lambda x: kl.GroupNormalization(4)(kl.Conv2D(8, 3)(x)),
        "unit-norm": lambda x: kl.UnitNormalization()(kl.Conv2D(8, 3)(x)),
        "multi-head-attention": lambda x: kl.MultiHeadAttention(2, 4)(tokens(x), tokens(x)),
        "attention-pooling": pool_by_attention,
        "squeeze-and-excite": squeeze,
        "resizing-first": lambda x: kl.BatchNormalization()(kl.Conv2D(8, 3)(kl.Resizing(12, 12)(x))),
        "center-crop-first": lambda x: kl.BatchNormalization()(kl.Conv2D(8, 3)(kl.CenterCrop(12, 12)(x))),
        "random-first": randoms,
        "rescaling": lambda x: kl.Conv2D(8, 3)(kl.Rescaling(255 / 127.5, offset=-1)(x)),
        "normalization": lambda x: kl.Conv2D(8, 3)(
            kl.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.2, 0.3, 0.4])(x)
        ),
        "average-pool": lambda x: kl.AveragePooling2D(2)(kl.Conv2D(8, 3)(x)),
        "global-max": lambda x: kl.GlobalMaxPooling2D()(kl.Conv2D(8, 3)(x)),
        "up-sampling": lambda x: kl.UpSampling2D()(kl.Conv2D(8, 3)(x)),
        "up-sampling-bilinear": lambda x: kl.UpSampling2D(interpolation="bilinear")(kl.Conv2D(8, 3)(x)),
        "prelu": lambda x: kl.PReLU()(kl.Conv2D(8, 3)(x)),
        "zero-padding": lambda x: kl.Conv2D(8, 3)(kl.ZeroPadding2D()(x)),
        "cropping": lambda x: kl.Cropping2D(2)(kl.Conv2D(8, 3)(x)),
        "concatenate": lambda x: kl.Concatenate()([kl.Conv2D(8, 3)(x), kl.Conv2D(4, 3)(x)]),
        "residual": lambda x: kl.Add()([kl.Conv2D(3, 3, padding="same")(x), x]),
        "permute": lambda x: kl.Permute((2, 1, 3))(kl.Conv2D(8, (3, 5))(x)),
        "noise-and-dropout": lambda x: kl.GaussianNoise(0.5)(kl.SpatialDropout2D(0.5)(kl.Conv2D(8, 3)(x))),
        "lstm": lambda x: kl.LSTM(6)(kl.Reshape((16, 48))(x)),
    }


UNMARKED = ("grouped", "group-norm", "multi-head-attention", "random-first", "normalization")
KINDS = sorted(kinds())


@pytest.mark.parametrize(
    "name", [k if k in UNMARKED else pytest.param(k, marks=pytest.mark.long) for k in KINDS]
)
def test_layer_kinds(name):
    difference, spread = measure(stir(build_network(kinds()[name])))
    assert difference <= 1e-4
    assert spread > 1e-3


def activation_names() -> list[str]:
    import keras

    names = [name for name in dir(keras.activations) if callable(getattr(keras.activations, name))]
    # glu halves the channels and threshold needs two numbers: neither stands as `activation="..."`.
    return [n for n in names if n not in ("deserialize", "get", "serialize", "glu", "threshold")]


@pytest.mark.parametrize(
    "name",
    [n if n in ("gelu", "celu") else pytest.param(n, marks=pytest.mark.long) for n in activation_names()],
)
def test_every_activation_that_keras_names(name):
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(8, 3, activation=name)(x))
    model.layers[1].set_weights([weight * 3 for weight in model.layers[1].get_weights()])
    spread_logits(model, scale_pixels(draw_probes(SPEC), SPEC), to=1.0)
    difference, spread = measure(model)
    assert difference <= 1e-4
    assert spread > 0.01


def test_a_layer_that_is_patched_for_the_conversion_is_as_before(tmp_path):
    from keras import layers

    model = build_network(
        lambda x: layers.Conv2D(9, 3, groups=3)(layers.Normalization(mean=[0.1] * 3, variance=[0.2] * 3)(x))
    )
    wrapped = wrap_network(model, (16, 16, 3))
    images = draw_probes(SPEC)
    before = predict_network(wrapped, images, SPEC)
    convert_network(wrapped)
    assert (predict_network(wrapped, images, SPEC) == before).all()
    assert "convolution_op" not in vars(model.layers[2])


def test_a_lambda_is_refused_without_running_it(tmp_path):
    import keras

    bomb = tmp_path / "ran"
    image = keras.Input((16, 16, 3))
    code = eval(f"lambda x: (open({str(bomb)!r}, 'w').close(), x)[1]")
    layer = keras.layers.Lambda(code, output_shape=(16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(layer(image))
    keras.Model(image, keras.layers.Dense(2)(pooled)).save(tmp_path / "net.keras")
    bomb.unlink(missing_ok=True)
    with pytest.raises(ExportError, match="Lambda layer"):
        load_network(tmp_path / "net.keras")
    assert not bomb.exists()


def test_what_is_no_keras_file_is_refused(tmp_path):
    with pytest.raises(ExportError, match="does not exist"):
        load_network(tmp_path / "net.keras")
    (tmp_path / "net.keras").write_bytes(b"not a zip")
    with pytest.raises(ExportError, match="other.keras: Keras 3 cannot load the network"):
        load_network(tmp_path / "net.keras", called="other.keras")


def test_an_operation_without_an_onnx_form_is_named_with_its_layer():
    import keras

    class Strange(keras.layers.Layer):
        def call(self, inputs):
            import tensorflow

            return tensorflow.math.bessel_i0e(inputs)

    model = build_network(lambda x: Strange(name="strange")(keras.layers.Conv2D(4, 3)(x)))
    with pytest.raises(ExportError, match=r"layer 'strange' \(Strange\) uses BesselI0e"):
        convert_network(wrap_network(model, (16, 16, 3)))
    outside = build_network(lambda x: keras.ops.real(keras.ops.fft2((x, x))[0]))
    with pytest.raises(ExportError, match=r"call of keras\.ops, outside its layers, uses FFT2D"):
        convert_network(wrap_network(outside, (16, 16, 3)))


def test_mixed_precision_is_refused_and_its_way_round_works():
    import keras
    from keras import layers

    def build(policy):
        keras.config.set_dtype_policy(policy)
        try:
            return build_network(lambda x: layers.Conv2D(4, 3)(x))
        finally:
            keras.config.set_dtype_policy("float32")

    mixed, whole = build("mixed_float16"), build("float32")
    with pytest.raises(ExportError, match=r"layer '\w+' computes in float16"):
        wrap_network(mixed, (16, 16, 3))
    whole.set_weights(mixed.get_weights())
    wrap_network(whole, (16, 16, 3))


def test_logits_are_compared_where_probabilities_are_saturated(monkeypatch):
    """Softmax of huge logits is 0 and 1 in a wrong graph as in a right one."""
    from keras import layers

    from wetread.export import network

    model = build_network(lambda x: layers.Conv2D(4, 3)(x))
    model.layers[-1].set_weights([weight * 1e5 for weight in model.layers[-1].get_weights()])
    wrapped = wrap_network(model, (16, 16, 3))
    build_graph(wrapped, SPEC)
    convert = network.convert_network

    def convert_wrongly(wrapped):
        graph = convert(wrapped)
        for tensor in graph.graph.initializer:
            if tensor.name.endswith("bias") or len(tensor.dims) == 4:
                array = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array * np.float32(1.01), tensor.name))
        return graph

    monkeypatch.setattr(network, "convert_network", convert_wrongly)
    with pytest.raises(ExportError, match=r"logits are off from Keras' by .* 0\.001 is accepted"):
        build_graph(wrapped, SPEC)


def test_a_layer_of_its_authors_is_named(tmp_path):
    import keras

    @keras.saving.register_keras_serializable("tests", name="Homemade")
    class Homemade(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    build_network(lambda x: Homemade()(x)).save(tmp_path / "net.keras")
    keras.saving.get_custom_objects().pop("tests>Homemade")
    with pytest.raises(ExportError, match="the network needs 'Homemade', which is its author's own code"):
        load_network(tmp_path / "net.keras")


def test_a_network_of_several_inputs_or_outputs_is_refused():
    import keras

    from wetread.export.network import network_shape

    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    both = keras.layers.Concatenate()([one, two])
    with pytest.raises(ExportError, match="one image"):
        network_shape(keras.Model([one, two], both))
    with pytest.raises(ExportError, match="one output"):
        wrap_network(keras.Model(one, keras.layers.Conv2D(2, 3)(one)), (8, 8, 3))


APPLICATIONS = {
    "MobileNetV2": 96,
    "MobileNetV3Small": 96,
    "ResNet50V2": 96,
    "DenseNet121": 96,
    "EfficientNetB0": 96,
    "Xception": 96,
    "NASNetMobile": 224,
    "InceptionV3": 96,
}
SMALL = ("MobileNetV2",)


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.long) for n in APPLICATIONS]
)
def test_keras_applications_with_random_weights(name):
    import keras

    size = APPLICATIONS[name]
    spec = ModelSpec(
        labels=("a", "b", "c"), pixels=PixelRecipe(height=size, width=size, color="rgb"), head="softmax"
    )
    if name.startswith(("MobileNetV3", "EfficientNet")):
        spec = ModelSpec(labels=spec.labels, pixels=spec.pixels, head="softmax", scale=(1.0,))
    keras.utils.set_random_seed(0)
    application = getattr(keras.applications, name)
    model = application(weights=None, classes=3, input_shape=(size, size, 3))
    settle(model, spec)
    difference, spread = measure(model, spec)
    assert difference <= 1e-4
    assert spread > 0.01


def settle(model, spec) -> None:
    """Give BatchNorm the statistics of some pictures, or random weights end in the same answer for all.

    The logits are spread by 0.3 only: a random network is so ill-conditioned that a change of the input in
    the seventh decimal shows in the fourth of a probability, in Keras as anywhere.
    """
    pictures = np.stack([draw_image(seed, shape=spec.pixels.shape) for seed in range(1, 25)])
    inputs = scale_pixels(pictures, spec)
    norms = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(inputs, training=True)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
    spread_logits(model, inputs, to=0.3)


def spread_logits(model, inputs, *, to: float) -> None:
    """Scale and shift the last layer that has weights until the logits of some images deviate so around 0."""
    outputs = np.asarray(model(inputs, training=False))
    if model.layers[-1].activation.__name__ == "softmax":
        outputs = np.log(outputs + 1e-30)
    factor = min(to / max(float(outputs.std(axis=0).max()), 1e-6), 1000.0)
    last = next(layer for layer in reversed(model.layers) if layer.get_weights())
    weight, bias = last.get_weights()
    shift = bias - outputs.mean(axis=0)
    last.set_weights([weight * factor, (shift - shift.mean()) * factor])


def one_dense(shape=(8, 8, 1), units=3):
    from keras import Input, Model, layers

    image = Input(shape, name="image")
    return image, layers.Dense(units, name="answer")(layers.Flatten()(image)), Model


FORMS = {
    "dense-alone": lambda i, o, build: build(i, o),
    "list-to-list": lambda i, o, build: build([i], [o]),
    "to-list": lambda i, o, build: build(i, [o]),
    "from-list": lambda i, o, build: build([i], o),
    "dict-to-dict": lambda i, o, build: build({"image": i}, {"answer": o}),
    "nested": lambda i, o, build: build({"image": i}, {"answer": [o]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_output_is_one_output_however_it_is_wrapped(form, tmp_path):
    model = FORMS[form](*one_dense())
    model.save(tmp_path / "net.keras")
    spec = ModelSpec(labels=("a", "b", "c"), pixels=PixelRecipe(height=8, width=8), scale=(1 / 255,))
    difference, spread = measure(load_network(tmp_path / "net.keras"), spec)
    assert difference <= 1e-5
    assert spread > 0.01


def test_a_network_without_any_layer_of_weights():
    from keras import Input, Model, layers

    image = Input((1, 1, 3))
    model = Model(image, layers.Softmax()(layers.Flatten()(image)))
    spec = ModelSpec(
        labels=("a", "b", "c"),
        pixels=PixelRecipe(height=1, width=1, color="rgb"),
        head="softmax",
        scale=(1 / 255,),
    )
    assert measure(model, spec)[0] <= 1e-5
    graph = build_graph(wrap_network(model, spec.pixels.shape), spec)
    assert choose_inputs(graph, spec.pixels, None).seeds
    histograms = collect_histograms(graph, quantize.activation_names(graph), draw_probes(spec))
    with pytest.raises(ExportError, match="No layer of the network can be quantized.*--precision float32"):
        quantize.quantize_graph(graph, histograms, quantize.Settings())


@pytest.mark.parametrize("wrap", [list, lambda outputs: dict(zip("xy", outputs, strict=True))])
def test_two_outputs_are_refused_by_name(wrap):
    from keras import layers

    image, one, build = one_dense()
    other = layers.Dense(2, name="grade")(layers.Flatten()(image))
    with pytest.raises(ExportError, match=r"'answer' \(None, 3\), 'grade' \(None, 2\).*Choose one"):
        wrap_network(build(image, wrap([one, other])), (8, 8, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value):
    model = build_network(lambda x: __import__("keras").layers.Conv2D(4, 3, name="first")(x))
    layer = model.get_layer("first")
    kernel, bias = layer.get_weights()
    kernel[0, 0, 0, 0] = value
    layer.set_weights([kernel, bias])
    with pytest.raises(ExportError, match="not finite .* in 1 of 4 layers: 'first'"):
        wrap_network(model, SPEC.pixels.shape)
