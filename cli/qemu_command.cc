#include "cli/qemu_command.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <optional>
#include <set>

namespace vmhop {
namespace {

constexpr uint64_t kMiB = 1 << 20;
// What -m is without a size, and what QEMU rounds sizes up to.
constexpr uint64_t kDefaultRam = 128 * kMiB;
constexpr uint64_t kRamGranule = 8192;
// More than a processor can address; sums of sizes up to it are no concern.
constexpr uint64_t kMostRam = 1ULL << 52;
// Descriptors of all regions, and a few more, pass to the pager in one message of 64.
constexpr size_t kMaxBackends = 30;
constexpr const char* kDefaultBackend = "vmhop-ram";
constexpr const char* kPostcopyBackend = "memory-backend-postcopy";

// Properties of memory-backend-postcopy that go on to QEMU's memory-backend-file as they are.
constexpr std::array kPassedOn = {"merge", "dump", "policy", "host-nodes", "reserve"};

struct MemoryObject {
  RegionSpec region;
  std::string properties;  // ",merge=off", …
};

// What the command line says about RAM.
struct MemoryOptions {
  std::optional<uint64_t> main_size;  // -m
  bool has_m = false;
  std::string machine_backend;  // -machine memory-backend=
  std::vector<std::string> node_backends;
  std::set<std::string> device_backends;
  std::vector<MemoryObject> objects;

  const MemoryObject* find(const std::string& id) const {
    auto it = std::find_if(objects.begin(), objects.end(),
                           [&](const MemoryObject& object) { return object.region.id == id; });
    return it == objects.end() ? nullptr : &*it;
  }
};

bool is_object_of(const QemuOption& option, const PropertyList& properties,
                  std::string_view prefix) {
  return option.name == "object" &&
         property(properties, "qom-type").value_or("").starts_with(prefix);
}

Status check_id(const std::string& id) {
  auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
  };
  if (id.empty() || std::isalpha(static_cast<unsigned char>(id[0])) == 0 ||
      !std::all_of(id.begin(), id.end(), allowed) || id.size() > 255) {
    return refusedf("-object {}: '{}' is no valid id; use letters, digits, '-', '.' and '_'",
                    kPostcopyBackend, id);
  }
  return ok_status();
}

bool passes_on(const std::string& key) {
  // In a key nothing escapes it: what follows would be a property of its own.
  if (key.find(',') != std::string::npos) return false;
  return std::any_of(kPassedOn.begin(), kPassedOn.end(), [&](std::string_view name) {
    return key == name || (key.starts_with(name) && key[name.size()] == '.');
  });
}

Status check_huge_pages(const RegionSpec& region) {
  uint64_t page = region.huge_page_size;
  if (!region.huge && page != 0) {
    return refusedf("-object {},id={}: hugetlbsize= is for hugetlb=on", kPostcopyBackend,
                    region.id);
  }
  if (page != 0 && (!std::has_single_bit(page) || page <= 4096 || region.size % page != 0)) {
    return refusedf(
        "-object {},id={}: hugetlbsize={} must be a power of two that divides the size ({})",
        kPostcopyBackend, region.id, page, region.size);
  }
  return ok_status();
}

Result<MemoryObject> read_postcopy_object(const PropertyList& properties) {
  MemoryObject object;
  bool has_size = false;
  for (const auto& [key, value] : properties) {
    if (key == "qom-type") continue;
    if (key == "id") {
      object.region.id = value;
    } else if (key == "size") {
      VMHOP_ASSIGN(object.region.size, parse_qemu_size(value));
      has_size = true;
    } else if (key == "share") {
      if (!is_on(value)) {
        return refusedf(
            "-object {},share={}: RAM that is not shared cannot be relocated. Leave share out, or "
            "say share=on",
            kPostcopyBackend, value);
      }
    } else if (key == "hugetlb") {
      object.region.huge = is_on(value);
    } else if (key == "hugetlbsize") {
      VMHOP_ASSIGN(object.region.huge_page_size, parse_qemu_size(value));
    } else if (key == "pager") {
      return refusedf(
          "-object {},pager=: vmhop says itself where its pager is. Leave pager out, or start this "
          "QEMU without vmhop and serve it with `vmhop pager`",
          kPostcopyBackend);
    } else if (key == "prealloc" || key == "discard-data") {
      if (is_on(value)) {
        return refusedf(
            "-object {},{}=on: it {} behind the back of the relocation. Leave {} out",
            kPostcopyBackend, key,
            key == "prealloc" ? "touches pages that have not arrived" : "punches holes into RAM",
            key);
      }
    } else if (passes_on(key)) {
      object.properties += fmt::format(",{}={}", key, escape_commas(value));
    } else {
      return refusedf(
          "-object {}: the property {} is not known; there are id, size, share, hugetlb, "
          "hugetlbsize, merge, dump, policy, host-nodes and reserve",
          kPostcopyBackend, key);
    }
  }
  VMHOP_TRY(check_id(object.region.id));
  if (!has_size || object.region.size == 0 || object.region.size % 4096 != 0) {
    return refusedf("-object {},id={}: size= must be given, a multiple of 4096 bytes",
                    kPostcopyBackend, object.region.id);
  }
  if (object.region.size > kMostRam) {
    return refusedf("-object {},id={}: size={} is more than a machine can have", kPostcopyBackend,
                    object.region.id, object.region.size);
  }
  VMHOP_TRY(check_huge_pages(object.region));
  if (object.region.huge && object.properties.find(",reserve=") != std::string::npos &&
      !is_on(property(properties, "reserve"))) {
    return refusedf(
        "-object {},id={}: hugetlb=on with reserve=off: a page that arrives could find no place. "
        "Leave reserve out",
        kPostcopyBackend, object.region.id);
  }
  return object;
}

Status read_memory_size(const QemuOption& option, MemoryOptions& memory) {
  memory.has_m = true;
  VMHOP_ASSIGN(PropertyList properties, parse_properties(*option.value, "size"));
  if (auto size = property(properties, "size")) {
    auto bytes = parse_qemu_size(*size, kMiB);
    if (!bytes) return bytes.error().with("-m " + *option.value);
    if (*bytes == 0) return refusedf("-m {}: a VM without RAM cannot be relocated", *option.value);
    if (*bytes > kMostRam) {
      return refusedf("-m {}: more RAM than a machine can have", *option.value);
    }
    memory.main_size = (*bytes + kRamGranule - 1) / kRamGranule * kRamGranule;
  }
  return ok_status();
}

Status read_object(const QemuOption& option, MemoryOptions& memory) {
  VMHOP_ASSIGN(PropertyList properties, parse_properties(*option.value, "qom-type"));
  if (!is_object_of(option, properties, "memory-backend-")) return ok_status();
  std::string type = *property(properties, "qom-type");
  if (type != kPostcopyBackend) {
    return refusedf(
        "-object {0} cannot be relocated: RAM must be on memory that vmhop holds. Use -object "
        "{1},id={2},size=… instead, or -m alone",
        type, kPostcopyBackend, property(properties, "id").value_or("ID"));
  }
  VMHOP_ASSIGN(MemoryObject object, read_postcopy_object(properties));
  if (memory.find(object.region.id) != nullptr) {
    return refusedf("-object {}: the id {} is used twice", kPostcopyBackend, object.region.id);
  }
  memory.objects.push_back(std::move(object));
  return ok_status();
}

Status read_memory_option(const QemuOption& option, MemoryOptions& memory) {
  if (option.name == "m") return read_memory_size(option, memory);
  if (option.name == "object") return read_object(option, memory);
  if (option.name == "machine" || option.name == "M") {
    VMHOP_ASSIGN(PropertyList machine, parse_properties(*option.value, "type"));
    if (auto id = property(machine, "memory-backend")) memory.machine_backend = *id;
  } else if (option.name == "numa") {
    VMHOP_ASSIGN(PropertyList numa, parse_properties(*option.value, "type"));
    if (auto id = property(numa, "memdev")) memory.node_backends.push_back(*id);
  } else if (option.name == "device") {
    VMHOP_ASSIGN(PropertyList device, parse_properties(*option.value, "driver"));
    if (auto id = property(device, "memdev")) memory.device_backends.insert(*id);
  }
  return ok_status();
}

Status check_references(const MemoryOptions& memory) {
  auto check = [&](const std::string& id, const char* where) -> Status {
    if (memory.find(id) != nullptr) return ok_status();
    return refusedf("{}{} names a memory backend that is not there: add -object {},id={},size=…",
                    where, id, kPostcopyBackend, id);
  };
  if (!memory.machine_backend.empty()) {
    VMHOP_TRY(check(memory.machine_backend, "-machine memory-backend="));
  }
  for (const std::string& id : memory.node_backends)
    VMHOP_TRY(check(id, "-numa node,memdev="));
  for (const std::string& id : memory.device_backends)
    VMHOP_TRY(check(id, "-device …,memdev="));
  return ok_status();
}

// What becomes the machine's main memory.
struct MainMemory {
  uint64_t size = 0;
  std::string backend_to_name;  // in -machine memory-backend=; empty: nothing to add
  bool add_default_backend = false;
};

Result<MainMemory> choose_main_memory(const MemoryOptions& memory) {
  if (!memory.machine_backend.empty()) {
    return MainMemory{memory.find(memory.machine_backend)->region.size, "", false};
  }
  if (!memory.node_backends.empty()) {
    MainMemory main;
    for (const std::string& id : memory.node_backends)
      main.size += memory.find(id)->region.size;
    return main;
  }
  std::vector<const MemoryObject*> unused;
  for (const MemoryObject& object : memory.objects) {
    if (!memory.device_backends.contains(object.region.id)) unused.push_back(&object);
  }
  if (unused.size() > 1) {
    return refusedf(
        "{} memory backends and no -numa node,memdev=ID that says where they belong: give each "
        "its node, or name one in -machine memory-backend=ID",
        unused.size());
  }
  if (unused.size() == 1) {
    return MainMemory{unused[0]->region.size, unused[0]->region.id, false};
  }
  return MainMemory{memory.main_size.value_or(kDefaultRam), kDefaultBackend, true};
}

std::string size_option(uint64_t bytes) {
  return bytes % kMiB == 0 ? fmt::format("size={}M", bytes / kMiB) : fmt::format("size={}B", bytes);
}

// What is not known yet comes last: the descriptor's number, the socket's path.
std::string backend_option(const MemoryObject& object, Front front) {
  if (front == Front::kPreload) {
    return fmt::format("memory-backend-file,id={},size={},share=on{},mem-path=/proc/self/fd/",
                       object.region.id, object.region.size, object.properties);
  }
  std::string huge;
  if (object.region.huge) huge = ",hugetlb=on";
  if (object.region.huge_page_size != 0) {
    huge += fmt::format(",hugetlbsize={}", object.region.huge_page_size);
  }
  return fmt::format("{},id={},size={}{}{}", kPostcopyBackend, object.region.id, object.region.size,
                     huge, object.properties);
}

}  // namespace

Result<QemuCommand> QemuCommand::translate(std::span<const std::string> command, VmRole role,
                                           Front front) {
  if (command.empty() || command[0].empty() || command[0][0] == '-') {
    return refusedf("QEMU's command is missing: … -- qemu-system-x86_64 ARGUMENTS");
  }
  VMHOP_ASSIGN(std::vector<QemuOption> options, split_qemu_arguments(command.subspan(1)));
  VMHOP_TRY(check_relocatable(options, role));
  MemoryOptions memory;
  for (const QemuOption& option : options)
    VMHOP_TRY(read_memory_option(option, memory));
  VMHOP_TRY(check_references(memory));
  VMHOP_ASSIGN(MainMemory main, choose_main_memory(memory));
  if (memory.main_size && *memory.main_size != main.size) {
    return refusedf(
        "-m says {} MiB but the memory backends make {} MiB: make them equal, or leave -m out",
        *memory.main_size / kMiB, main.size / kMiB);
  }
  if (main.add_default_backend) {
    if (memory.find(kDefaultBackend) != nullptr) {
      return refusedf("the id {} is vmhop's own; choose another one", kDefaultBackend);
    }
    // Not as a temporary: GCC 12 at -O3 takes one to be used uninitialized.
    memory.objects.emplace_back().region = RegionSpec{kDefaultBackend, main.size, false, 0};
  }
  if (memory.objects.size() > kMaxBackends) {
    return refusedf("{} memory backends; {} are possible", memory.objects.size(), kMaxBackends);
  }

  QemuCommand result;
  result.program_ = command[0];
  result.role_ = role;
  result.front_ = front;
  for (const QemuOption& option : options) {
    if (option.name == "object") {
      VMHOP_ASSIGN(PropertyList properties, parse_properties(*option.value, "qom-type"));
      if (is_object_of(option, properties, kPostcopyBackend)) continue;
    }
    if (!option.name.empty()) result.arguments_.push_back({"-" + option.name});
    if (option.value) result.arguments_.push_back({*option.value});
  }
  for (const MemoryObject& object : memory.objects) {
    result.arguments_.push_back({"-object"});
    result.arguments_.push_back(
        {backend_option(object, front), static_cast<int>(result.regions_.size())});
    result.regions_.push_back(object.region);
  }
  if (!main.backend_to_name.empty()) {
    result.arguments_.push_back({"-machine"});
    result.arguments_.push_back({"memory-backend=" + main.backend_to_name});
  }
  if (!memory.main_size) {
    result.arguments_.push_back({"-m"});
    result.arguments_.push_back({size_option(main.size)});
  }
  return result;
}

std::vector<std::string> QemuCommand::argv(const Places& places) const {
  std::vector<std::string> argv{program_};
  for (const Argument& argument : arguments_) {
    argv.push_back(argument.text);
    if (argument.region < 0) continue;
    if (front_ == Front::kPreload) {
      argv.back() += fmt::to_string(places.memory_fds[static_cast<size_t>(argument.region)]);
    } else if (role_ == VmRole::kReceive) {
      argv.back() += ",pager=" + escape_commas(places.front_socket);
    }
  }
  int number = 1;
  for (const std::string* path : {&places.lifecycle_qmp, &places.relocation_qmp}) {
    argv.insert(argv.end(), {"-chardev",
                             fmt::format("socket,id=vmhop-qmp-{},path={},server=on,wait=off",
                                         number, escape_commas(*path)),
                             "-mon", fmt::format("chardev=vmhop-qmp-{},mode=control", number)});
    ++number;
  }
  if (role_ == VmRole::kReceive) argv.insert(argv.end(), {"-incoming", "defer", "-S"});
  return argv;
}

}  // namespace vmhop
