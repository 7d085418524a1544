"""Run in a process of its own: parse a model with one plugin, written in Python, and count the plugin layers."""

from __future__ import annotations

import onnx.parser
import tensorrt_rtx as trt

PARTS = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
MODEL = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
one_norm (float[n, 8] X, float[8] scale) => (float[n, 8] Y) { Y = rms_deploy.RMSNorm (X, scale) }"""


class Plugin(*PARTS):
    def __init__(self):
        for part in PARTS:
            part.__init__(self)
        self.plugin_name, self.plugin_version, self.plugin_namespace = "RMSNorm", "1", "rms_deploy"
        self.num_outputs = 1

    def get_capability_interface(self, _kind):
        return self

    def clone(self):
        return Plugin()

    def get_output_data_types(self, types):
        return types[:1]

    def get_output_shapes(self, inputs, *_):
        return inputs[:1]


class Creator(trt.IPluginCreatorV3One):
    def __init__(self):
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_version, self.plugin_namespace = "RMSNorm", "1", "rms_deploy"
        self.field_names = trt.PluginFieldCollection([])

    def create_plugin(self, *_):
        return Plugin()


if __name__ == "__main__":
    creator = Creator()
    trt.get_plugin_registry().register_creator(creator, "rms_deploy")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(onnx.parser.parse_model(MODEL).SerializeToString()), parser.get_error(0).desc()
    layers = [network.get_layer(index).type for index in range(network.num_layers)]
    print(layers.count(trt.LayerType.PLUGIN_V3), "plugin layer")
