// Drives the plugin as TensorRT does: create -> clone -> serialise -> configure -> tactics -> attach -> shapes ->
// enqueue. Compiled with the plugin's sources and with kernels that write down what they are given, so that it needs no
// GPU. Arguments: the fake TensorRTs, whose loggers the plugin must find.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cuda/norm.h"
#include "tensorrt/api.h"

using namespace nvinfer1;
namespace cuda = rms_deploy::cuda;
using rms_deploy::contract::ElementType;

extern "C" IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(void* finder);

namespace {

int failures = 0;
long allocations = 0;
rms_deploy::Problem launched;
cuda::Tactic launched_tactic = -1;
cudaStream_t launched_stream = nullptr;
int launches = 0;
int preparations = 0;
cuda::Error next_error = cuda::Error::kNone;

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                         \
    }                                                                     \
  } while (false)

}  // namespace

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) {
    return memory;
  }
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace rms_deploy::cuda {
int32_t tactics(const Problem& problem, Tactic (&found)[kMaxTactics]) {
  launched = problem;
  found[0] = 4;
  found[1] = 7;
  return 2;
}
Error prepare() {
  ++preparations;
  return next_error;
}
const char* text_of(Error) { return "fake error"; }
Error launch(const Problem& problem, Tactic tactic, Stream stream) {
  launched = problem;
  launched_tactic = tactic;
  launched_stream = stream;
  ++launches;
  return next_error;
}
}  // namespace rms_deploy::cuda

namespace {

IPluginCreatorV3One* creator(int32_t index) {
  int32_t count = 0;
  IPluginCreatorInterface* const* all = getCreators(count);
  CHECK(count == 14);
  return static_cast<IPluginCreatorV3One*>(all[index]);
}

struct Made {
  explicit Made(IPluginV3* made) : plugin(made) {
    core = static_cast<IPluginV3OneCore*>(made->getCapabilityInterface(PluginCapabilityType::kCORE));
    build = static_cast<IPluginV3OneBuild*>(made->getCapabilityInterface(PluginCapabilityType::kBUILD));
    runtime = static_cast<IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  }
  std::unique_ptr<IPluginV3> plugin;
  IPluginV3OneCore* core;
  IPluginV3OneBuild* build;
  IPluginV3OneRuntime* runtime;
};

Made make(int32_t kind, const std::vector<PluginField>& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
  const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
  return Made(creator(kind)->createPlugin("layer", &collection, phase));
}

PluginTensorDesc tensor(DataType type, const std::vector<int64_t>& dims) {
  PluginTensorDesc desc{};
  desc.type = type;
  desc.format = TensorFormat::kLINEAR;
  desc.dims.nbDims = static_cast<int32_t>(dims.size());
  std::memcpy(desc.dims.d, dims.data(), dims.size() * sizeof dims[0]);
  return desc;
}

DynamicPluginTensorDesc dynamic(const PluginTensorDesc& desc, int64_t least, int64_t most) {
  DynamicPluginTensorDesc all{desc, desc.dims, desc.dims, desc.dims};
  for (int32_t i = 0; i < desc.dims.nbDims; ++i) {
    if (desc.dims.d[i] < 0) {
      all.min.d[i] = least;
      all.opt.d[i] = all.max.d[i] = most;
    }
  }
  return all;
}

const std::vector<int64_t> kAxes{-2, -1};
const float kEpsilon = 1e-5F, kRmsEpsilon = 1e-3F, kRmsMin = 1e-2F;
const int64_t kScaleType = 16, kPartialSize = 5;

std::vector<PluginField> all_fields() {
  return {{"partial_size", &kPartialSize, PluginFieldType::kINT64, 1},
          {"rms_min", &kRmsMin, PluginFieldType::kFLOAT32, 1},
          {"epsilon", &kEpsilon, PluginFieldType::kFLOAT32, 1},
          {"axes", kAxes.data(), PluginFieldType::kINT64, 2},
          {"scale_type", &kScaleType, PluginFieldType::kINT64, 1},
          {"rms_epsilon", &kRmsEpsilon, PluginFieldType::kFLOAT32, 1}};
}

// A plan's fields live in memory that TensorRT frees after createPlugin.
Made through_a_plan(const Made& made, int32_t kind) {
  const PluginFieldCollection* fields = made.runtime->getFieldsToSerialize();
  std::vector<std::vector<char>> memory;
  std::vector<PluginField> copies;
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const PluginField& field = fields->fields[i];
    const bool is_wide = field.type == PluginFieldType::kINT64;
    const size_t size = is_wide ? 8 : 4;
    CHECK(is_wide || field.type == PluginFieldType::kFLOAT32 || field.type == PluginFieldType::kINT32);
    const char* data = static_cast<const char*>(field.data);
    memory.emplace_back(data, data + size * static_cast<size_t>(field.length));
    copies.emplace_back(field.name, memory.back().data(), field.type, field.length);
  }
  return make(kind, copies, TensorRTPhase::kRUNTIME);
}

void check_copies() {
  const Made made = make(1, all_fields());
  CHECK(std::string(made.core->getPluginName()) == "PartialRMSNorm");
  CHECK(std::string(made.core->getPluginVersion()) == "1");
  CHECK(std::string(made.core->getPluginNamespace()) == "rms_deploy");
  const std::string text = made.build->getMetadataString();
  CHECK(text ==
        "axes=[-2,-1] epsilon=9.99999975e-06 rms_epsilon=0.00100000005 rms_min=0.00999999978 scale_type=16 "
        "partial_size=5");
  const Made clone(made.plugin->clone());
  const Made planned = through_a_plan(clone, 1);
  const Made twice = through_a_plan(planned, 1);
  for (const Made* copy : {&clone, &planned, &twice}) {
    CHECK(copy->build->getMetadataString() == text);
    CHECK(std::strcmp(copy->build->getTimingCacheID(), made.build->getTimingCacheID()) == 0);
  }
  CHECK(std::string(made.build->getTimingCacheID()).rfind(text, 0) == 0);
  CHECK(std::string(made.build->getTimingCacheID()).size() > text.size());
  CHECK(std::string(make(0, {}).build->getMetadataString()) ==
        "axes=[-1] epsilon=9.99999997e-07 rms_epsilon=0 rms_min=0 scale_type=1");
}

void check_formats() {
  const DataType types[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16, static_cast<DataType>(2)};
  for (const int64_t scale_type : {1, 10, 16}) {
    const Made made = make(2, {{"scale_type", &scale_type, PluginFieldType::kINT64, 1}});
    const DataType only = scale_type == 10 ? DataType::kHALF : DataType::kBF16;
    for (const DataType t : types) {
      for (const DataType s : types) {
        DynamicPluginTensorDesc all[5] = {};
        for (int i = 0; i < 5; ++i) {
          all[i].desc = tensor(i == 2 ? s : t, {2, 8});  // X, R, scale, Y, Sum
        }
        bool takes = true;
        for (int i = 0; i < 5; ++i) {
          takes = takes && made.build->supportsFormatCombination(i, all, 3, 2);
        }
        const bool type_is_ours = t != types[3] && (scale_type == 1 || t == only);
        CHECK(takes == (type_is_ours && (s == t || s == DataType::kFLOAT)));
        for (int i = 0; takes && i < 5; ++i) {
          all[i].desc.format = static_cast<TensorFormat>(2);
          CHECK(!made.build->supportsFormatCombination(i, all, 3, 2));
          all[i].desc.format = TensorFormat::kLINEAR;
        }
        const DataType in[] = {t, t, s};
        DataType out[2] = {};
        CHECK((made.build->getOutputDataTypes(out, 2, in, 3) == 0) == takes);
        CHECK(!takes || (out[0] == t && out[1] == t));
      }
    }
  }
}

void check_shapes() {
  const Made made = make(2, {});
  CHECK(made.build->getNbOutputs() == 2);
  CHECK(make(1, all_fields()).build->getNbOutputs() == 1);
  char expressions[3];  // never looked into
  DimsExprs in[3] = {};
  in[0].nbDims = in[1].nbDims = 3;
  in[2].nbDims = 1;
  for (int i = 0; i < 3; ++i) {
    in[0].d[i] = reinterpret_cast<const IDimensionExpr*>(&expressions[i]);
  }
  DimsExprs out[2] = {};
  IExprBuilder& builder = *reinterpret_cast<IExprBuilder*>(expressions);
  CHECK(made.build->getOutputShapes(in, 3, nullptr, 0, out, 2, builder) == 0);
  for (const DimsExprs& each : out) {
    CHECK(each.nbDims == 3 && std::memcmp(each.d, in[0].d, 3 * sizeof in[0].d[0]) == 0);
  }
  in[1].nbDims = 2;
  CHECK(made.build->getOutputShapes(in, 3, nullptr, 0, out, 2, builder) != 0);
  CHECK(made.build->getOutputShapes(in, 2, nullptr, 0, out, 1, builder) != 0);
}

void check_tactics() {
  const Made made = make(0, {});
  const PluginTensorDesc x = tensor(DataType::kHALF, {-1, 64}), scale = tensor(DataType::kFLOAT, {64});
  const DynamicPluginTensorDesc y = dynamic(x, 3, 3);
  const DynamicPluginTensorDesc one[] = {dynamic(x, 3, 3), dynamic(scale, 3, 3)};
  CHECK(made.build->configurePlugin(one, 2, &y, 1) == 0);
  int32_t found[2] = {};
  CHECK(made.build->getNbTactics() == 2 && made.build->getValidTactics(found, 2) == 0);
  CHECK(found[0] == 4 && found[1] == 7);
  CHECK(launched.outer == 3 && launched.n == 64 && launched.inner == 1);
  CHECK(made.build->getWorkspaceSize(one, 2, &y, 1) == 0);
  const DynamicPluginTensorDesc several[] = {dynamic(x, 1, 8), dynamic(scale, 3, 3)};
  CHECK(made.build->configurePlugin(several, 2, &y, 1) == 0);
  CHECK(made.build->getNbTactics() == 0);
  const DynamicPluginTensorDesc wrong[] = {dynamic(x, 1, 8), dynamic(tensor(DataType::kFLOAT, {63}), 3, 3)};
  CHECK(made.build->configurePlugin(wrong, 2, &y, 1) != 0);
}

void check_enqueue() {
  const cudaStream_t stream = reinterpret_cast<cudaStream_t>(&failures);
  const Made made = make(1, all_fields());
  preparations = 0;
  const Made attached(made.runtime->attachToContext(nullptr));
  CHECK(preparations == 1);
  CHECK(attached.runtime->setTactic(7) == 0);
  const PluginTensorDesc in[] = {tensor(DataType::kBF16, {3, 4, 5}), tensor(DataType::kBF16, {4, 5})};
  char memory[8];
  const void* inputs[] = {&memory[0], &memory[1], &memory[2]};
  void* outputs[] = {&memory[3], &memory[4]};
  CHECK(attached.runtime->onShapeChange(in, 2, in, 1) == 0);
  const long before = allocations;
  launches = 0;
  CHECK(attached.runtime->enqueue(in, in, inputs, outputs, nullptr, stream) == 0);
  CHECK(allocations == before);
  CHECK(launches == 1 && preparations == 1 && launched_tactic == 7 && launched_stream == stream);
  CHECK(launched.type == ElementType::kBFloat16 && launched.scale_type == ElementType::kBFloat16);
  CHECK(launched.x == inputs[0] && launched.scale == inputs[1] && launched.y == outputs[0]);
  CHECK(launched.operand == nullptr && launched.sum == nullptr);
  CHECK(launched.outer == 3 && launched.n == 20 && launched.inner == 1 && launched.statistics_size == 5);
  CHECK(!launched.scalar_scale && launched.round_before_scale && !launched.round_reciprocal);
  CHECK(launched.epsilon == kEpsilon && launched.rms_epsilon == kRmsEpsilon && launched.rms_min == kRmsMin);

  const Made twin = make(4, all_fields());
  CHECK(twin.runtime->enqueue(in, in, inputs, outputs, nullptr, stream) == 0);
  CHECK(launched.statistics_size == 5 && launched.round_before_scale && launched.round_reciprocal);
  CHECK(twin.core->getPluginName() == std::string("PartialRMSNormReciprocal"));
  const Made in_float32 = make(3, {});
  CHECK(in_float32.runtime->enqueue(in, in, inputs, outputs, nullptr, stream) == 0);
  CHECK(!launched.round_before_scale && !launched.round_reciprocal);

  const int64_t middle = 1;
  const Made add = make(2, {{"axes", &middle, PluginFieldType::kINT64, 1}});
  const PluginTensorDesc x = tensor(DataType::kHALF, {2, 0, 7});
  const PluginTensorDesc three[] = {x, x, tensor(DataType::kFLOAT, {1})};
  CHECK(add.runtime->onShapeChange(three, 3, three, 2) == 0);
  CHECK(preparations == 2);  // the builder enqueues without a context
  CHECK(add.runtime->enqueue(three, three, inputs, outputs, nullptr, stream) == 0);
  CHECK(launched.type == ElementType::kFloat16 && launched.scale_type == ElementType::kFloat32);
  CHECK(launched.operand == inputs[1] && launched.scale == inputs[2] && launched.sum == outputs[1]);
  CHECK(launched.outer == 2 && launched.n == 0 && launched.inner == 7 && launched.statistics_size == 0);
  CHECK(launched.scalar_scale && !launched.round_before_scale && launched_tactic == cuda::kAutomatic);
  const PluginTensorDesc wrong[] = {x, tensor(DataType::kHALF, {2, 1, 7}), three[2]};
  CHECK(add.runtime->onShapeChange(wrong, 3, three, 2) != 0);
}

void check_gates() {
  using rms_deploy::contract::Gate;
  const PluginTensorDesc x = tensor(DataType::kBF16, {2, 3, 8});
  const PluginTensorDesc in[] = {x, x, tensor(DataType::kFLOAT, {8})};
  char memory[4];
  const void* inputs[] = {&memory[0], &memory[1], &memory[2]};
  void* outputs[] = {&memory[3]};
  for (const auto& [kind, gate, name] :
       {std::tuple{6, Gate::kSilu, "RMSNormSiluGate"}, std::tuple{7, Gate::kSiluFirst, "SiluGateRMSNorm"},
        std::tuple{8, Gate::kSigmoid, "RMSNormSigmoidGate"}}) {
    const Made made = make(kind, {});
    CHECK(made.core->getPluginName() == std::string(name));
    CHECK(made.build->getNbOutputs() == 1);
    DynamicPluginTensorDesc all[4] = {};
    for (int i = 0; i < 4; ++i) {
      all[i].desc = i == 2 ? in[2] : x;
      CHECK(made.build->supportsFormatCombination(i, all, 3, 1));
    }
    all[1].desc.type = DataType::kFLOAT;  // z has the type of x, and only scale may be float32
    CHECK(!made.build->supportsFormatCombination(1, all, 3, 1));
    const DataType types[] = {DataType::kBF16, DataType::kFLOAT, DataType::kFLOAT};
    DataType out;
    CHECK(made.build->getOutputDataTypes(&out, 1, types, 3) != 0);
    const Made planned = through_a_plan(made, kind);
    CHECK(planned.runtime->onShapeChange(in, 3, &x, 1) == 0);
    CHECK(planned.runtime->enqueue(in, &x, inputs, outputs, nullptr, nullptr) == 0);
    CHECK(launched.gate == gate && launched.outer == 6 && launched.n == 8 && launched.inner == 1);
    CHECK(launched.operand == inputs[1] && launched.scale == inputs[2] && launched.sum == nullptr);
    const PluginTensorDesc wrong[] = {x, tensor(DataType::kBF16, {2, 3, 1}), in[2]};
    CHECK(planned.runtime->onShapeChange(wrong, 3, &x, 1) != 0);
    const int64_t middle = 1;
    const Made columns = make(kind, {{"axes", &middle, PluginFieldType::kINT64, 1}});
    CHECK(columns.runtime->onShapeChange(in, 3, &x, 1) != 0);
  }
}

bool takes_all(const Made& made, const std::vector<DataType>& types, int32_t inputs) {
  std::vector<DynamicPluginTensorDesc> all;
  for (const DataType type : types) {
    all.push_back(dynamic(tensor(type, {2, 8}), 2, 2));
  }
  bool takes = true;
  for (int32_t i = 0; i < static_cast<int32_t>(types.size()); ++i) {
    const int32_t outputs = static_cast<int32_t>(types.size()) - inputs;
    takes = takes && made.build->supportsFormatCombination(i, all.data(), inputs, outputs);
  }
  return takes;
}

// Sum has the type of R, which is that of X or float32.
void check_sums() {
  constexpr DataType kF32 = DataType::kFLOAT, kF16 = DataType::kHALF, kB16 = DataType::kBF16;
  char memory[5];
  const void* inputs[] = {&memory[0], &memory[1], &memory[2]};
  void* outputs[] = {&memory[3], &memory[4]};
  for (const auto& [kind, is_float32] : {std::pair{2, false}, std::pair{5, false}, std::pair{11, true}}) {
    const Made made = make(kind, {});
    CHECK(takes_all(made, {kF16, kF16, kF32, kF16, kF16}, 3) && takes_all(made, {kF16, kF32, kF32, kF16, kF32}, 3));
    CHECK(!takes_all(made, {kF16, kB16, kF32, kF16, kB16}, 3) && !takes_all(made, {kF16, kF32, kF32, kF16, kF16}, 3));
    CHECK(!takes_all(made, {kF32, kF16, kF32, kF32, kF16}, 3) && !takes_all(made, {kF16, kF32, kF32, kF32, kF32}, 3));
    const DataType types[] = {kF16, kF32, kF32};
    DataType out[2];
    CHECK(made.build->getOutputDataTypes(out, 2, types, 3) == 0 && out[0] == kF16 && out[1] == kF32);
    const DataType wrong_types[] = {kF16, kB16, kF32};
    CHECK(made.build->getOutputDataTypes(out, 2, wrong_types, 3) != 0);
    const PluginTensorDesc in[] = {tensor(kF16, {2, 8}), tensor(kF32, {2, 8}), tensor(kF16, {8})};
    const Made planned = through_a_plan(made, kind);
    CHECK(planned.runtime->onShapeChange(in, 3, in, 2) == 0);
    CHECK(planned.runtime->enqueue(in, in, inputs, outputs, nullptr, nullptr) == 0);
    CHECK(launched.type == ElementType::kFloat16 && launched.sum_type == ElementType::kFloat32);
    CHECK(launched.normalizes_float32_sum == is_float32 && launched.operand == inputs[1] && launched.sum == outputs[1]);
    CHECK(launched.scale == inputs[2] && launched.shift == nullptr && launched.scale_type == ElementType::kFloat16);
    const PluginTensorDesc alike[] = {in[0], in[0], in[2]};
    CHECK(planned.runtime->enqueue(alike, in, inputs, outputs, nullptr, nullptr) == 0);
    CHECK(launched.sum_type == ElementType::kFloat16);
    const int64_t first = 0;
    const Made columns = make(kind, {{"axes", &first, PluginFieldType::kINT64, 1}});
    const PluginTensorDesc scalar = tensor(kF16, {1});
    const PluginTensorDesc mixed_columns[] = {in[0], in[1], scalar}, alike_columns[] = {in[0], in[0], scalar};
    CHECK(columns.runtime->onShapeChange(mixed_columns, 3, in, 2) != 0);
    CHECK((columns.runtime->onShapeChange(alike_columns, 3, in, 2) == 0) == !is_float32);
  }
}

// The input after scale, of its type and shape.
void check_shifts() {
  constexpr DataType kF32 = DataType::kFLOAT, kB16 = DataType::kBF16;
  char memory[6];
  const void* inputs[] = {&memory[0], &memory[1], &memory[2], &memory[3]};
  void* outputs[] = {&memory[4], &memory[5]};
  const Made made = make(9, {}), add = make(10, {});
  CHECK(made.build->getNbOutputs() == 1 && add.build->getNbOutputs() == 2);
  CHECK(takes_all(made, {kB16, kF32, kF32, kB16}, 3) && takes_all(add, {kB16, kF32, kB16, kB16, kB16, kF32}, 4));
  CHECK(!takes_all(made, {kB16, kF32, kB16, kB16}, 3) && !takes_all(add, {kB16, kB16, kB16, kF32, kB16, kB16}, 4));
  const PluginTensorDesc x = tensor(kB16, {2, 3, 8}), weights = tensor(kF32, {8});
  const PluginTensorDesc three[] = {x, weights, weights}, four[] = {x, tensor(kF32, {2, 3, 8}), weights, weights};
  CHECK(made.runtime->onShapeChange(three, 3, &x, 1) == 0 && add.runtime->onShapeChange(four, 4, three, 2) == 0);
  const Made planned = through_a_plan(made, 9), planned_add = through_a_plan(add, 10);
  CHECK(planned.runtime->enqueue(three, &x, inputs, outputs, nullptr, nullptr) == 0);
  CHECK(launched.scale == inputs[1] && launched.shift == inputs[2] && launched.operand == nullptr);
  CHECK(launched.sum == nullptr && launched.n == 8 && launched.sum_type == ElementType::kBFloat16);
  CHECK(planned_add.runtime->enqueue(four, three, inputs, outputs, nullptr, nullptr) == 0);
  CHECK(launched.operand == inputs[1] && launched.scale == inputs[2] && launched.shift == inputs[3]);
  CHECK(launched.sum == outputs[1] && launched.sum_type == ElementType::kFloat32);
  const DynamicPluginTensorDesc fixed[] = {dynamic(x, 1, 1), dynamic(weights, 1, 1), dynamic(weights, 1, 1)};
  CHECK(made.build->configurePlugin(fixed, 3, fixed, 1) == 0 && made.build->getNbTactics() == 0);
  const PluginTensorDesc wrong[] = {x, weights, tensor(kF32, {1})};
  CHECK(made.runtime->onShapeChange(wrong, 3, &x, 1) != 0);
  const PluginTensorDesc mistyped[] = {x, weights, tensor(kB16, {8})};
  CHECK(made.runtime->onShapeChange(mistyped, 3, &x, 1) != 0);
}

void check_codes() {
  using rms_deploy::contract::QuantizedType;
  constexpr DataType kF32 = DataType::kFLOAT, kF16 = DataType::kHALF;
  const float y_scale = 0.25F;
  const int64_t precision = 10;
  char memory[5];
  const void* inputs[] = {&memory[0], &memory[1], &memory[2]};
  void* outputs[] = {&memory[3], &memory[4]};
  for (const auto& [dtype, type, codes] : {std::tuple{int64_t{3}, DataType::kINT8, QuantizedType::kInt8},
                                           std::tuple{int64_t{17}, DataType::kFP8, QuantizedType::kFloat8E4M3FN}}) {
    const std::vector<PluginField> fields{{"y_scale", &y_scale, PluginFieldType::kFLOAT32, 1},
                                          {"output_dtype", &dtype, PluginFieldType::kINT64, 1},
                                          {"precision", &precision, PluginFieldType::kINT64, 1}};
    const Made made = make(12, fields), add = make(13, fields);
    CHECK(takes_all(made, {kF16, kF32, type}, 2) && takes_all(add, {kF16, kF32, kF16, type, kF32}, 3));
    CHECK(!takes_all(made, {kF16, kF32, kF16}, 2) && !takes_all(add, {kF16, kF32, kF16, type, type}, 3));
    const DataType types[] = {kF16, kF32, kF32};
    DataType out[2];
    CHECK(add.build->getOutputDataTypes(out, 2, types, 3) == 0 && out[0] == type && out[1] == kF32);
    const Made planned = through_a_plan(through_a_plan(add, 13), 13);
    CHECK(std::strcmp(planned.build->getTimingCacheID(), add.build->getTimingCacheID()) == 0);
    CHECK(std::string(planned.build->getMetadataString()) ==
          "axes=[-1] epsilon=9.99999997e-07 rms_epsilon=0 rms_min=0 scale_type=1 y_scale=0.25 output_dtype=" +
              std::to_string(dtype) + " precision=10");
    const PluginTensorDesc in[] = {tensor(kF16, {2, 8}), tensor(kF16, {2, 8}), tensor(kF16, {8})};
    CHECK(planned.runtime->onShapeChange(in, 3, in, 2) == 0);
    CHECK(planned.runtime->enqueue(in, in, inputs, outputs, nullptr, nullptr) == 0);
    CHECK(launched.y_scale == y_scale && launched.round_quotient && launched.quantized_type == codes &&
          launched.y == outputs[0]);
    CHECK(launched.type == ElementType::kFloat16 && launched.sum == outputs[1] && launched.operand == inputs[1]);
  }
}

template <class Function>
Function find(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

void check_logging(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr);
  const auto in_a_build = find<void (*)(bool)>(library, "fake_build");
  setLoggerFinder(find<void* (*)()>(library, "fake_finder")());
  const float negative = -1;
  const PluginField field("epsilon", &negative, PluginFieldType::kFLOAT32, 1);
  const PluginFieldCollection fields{1, &field};
  in_a_build(false);
  CHECK(creator(0)->createPlugin("layer", &fields, TensorRTPhase::kBUILD) == nullptr);
  in_a_build(true);
  next_error = cuda::Error::kInvalidValue;
  const Made made = make(0, {});
  const Made attached(made.runtime->attachToContext(nullptr));
  const PluginTensorDesc in[] = {tensor(DataType::kFLOAT, {2, 8}), tensor(DataType::kFLOAT, {8})};
  const void* inputs[] = {nullptr, nullptr};
  void* outputs[] = {nullptr};
  CHECK(attached.runtime->enqueue(in, in, inputs, outputs, nullptr, nullptr) == 1);
  next_error = cuda::Error::kNone;
  CHECK(find<const char* (*)()>(library, "fake_global_text")() ==
        std::string("1 RMSNorm node 'layer': epsilon is -1; use a finite number, at least 0\n"));
  CHECK(find<const char* (*)()>(library, "fake_found_text")() ==
        std::string("2 RMSNorm node 'layer': the kernels cannot be loaded: fake error\n"
                    "1 RMSNorm node 'layer': the launch failed: fake error\n"));
  setLoggerFinder(nullptr);
  CHECK(creator(0)->createPlugin("layer", &fields, TensorRTPhase::kBUILD) == nullptr);
}

}  // namespace

int main(int count, char** arguments) {
  check_copies();
  check_formats();
  check_shapes();
  check_tactics();
  check_enqueue();
  check_gates();
  check_sums();
  check_shifts();
  check_codes();
  for (int i = 1; i < count; ++i) {
    check_logging(arguments[i]);
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
