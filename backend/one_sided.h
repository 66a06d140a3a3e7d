// Transports that read the source's memory without its CPU: what a relocation needs of them. rdma/
// implements it; where there is none, pages travel on the TCP lanes alone.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/base/extents.h"
#include "backend/base/result.h"
#include "backend/destination_memory.h"
#include "backend/page_source.h"
#include "backend/ram_region.h"
#include "backend/session/messages.h"

namespace vmhop {

// The source's end: a VM's memory, registered to be read. One thread calls it at a time. When it
// goes, its connections are closed and the memory is unpinned.
class MemoryExport {
 public:
  virtual ~MemoryExport() = default;

  // Fresh tickets for so many connections. Those of a former offer are void, and its connections
  // end. Addresses on the network of `near` (numeric) come first.
  virtual Result<RdmaOffer> offer(size_t connections, const std::string& near) = 0;
  // Waits until every ticket of the offer was used: then the peer can read what is registered.
  virtual Status await_connections(std::chrono::milliseconds timeout) = 0;
  // Registers what is populated and was not yet, while the VM runs or after its stop; a list for
  // each region. Returns what was added. Pages between extents may be registered along with them
  // where that saves much; they add at most a few percent.
  virtual Result<std::vector<MemoryKeys>> register_memory(std::span<const ExtentList> extents) = 0;
  // All that is registered: for a destination that begins anew.
  virtual std::vector<MemoryKeys> keys() const = 0;
  virtual uint64_t registered_bytes() const = 0;
  virtual std::string device() const = 0;
};

// The destination's end: connections to a MemoryExport, and the memory that they read into.
class MemoryImport {
 public:
  virtual ~MemoryImport() = default;

  // These pages of the source can be read from now on. Their place here is registered too, which
  // allocates it; where that fails, reads go through a bounce buffer. One thread at a time; sources
  // may be at work meanwhile.
  virtual Status add_keys(const MemoryKeys& keys) = 0;
  // The page source of one connection, once for each. What no key covers it asks of `by_name`.
  virtual Result<std::unique_ptr<PageSource>> take_source(size_t connection,
                                                          std::unique_ptr<PageSource> by_name) = 0;
  // "rxe0, 10.0.0.2 from 10.0.0.1": for people.
  virtual std::string route() const = 0;
};

class OneSidedTransport {
 public:
  struct ExportOptions {
    bool on_demand_paging = false;  // instead of pinning, where the device can
  };
  virtual ~OneSidedTransport() = default;

  // Whether this host can do it at all; the error says what is missing and what to do.
  virtual Status usable() const = 0;
  // The regions must outlive the export. `on_lost` comes from a thread of the transport's own, when
  // a connection that was made ends by itself.
  virtual Result<std::unique_ptr<MemoryExport>> create_export(
      std::span<const RamRegion> regions, ExportOptions options,
      std::function<void(const Error&)> on_lost) = 0;
  // Makes all connections of the offer, the first of them for faults, or none; blocks. The regions
  // must outlive the import and its page sources.
  virtual Result<std::unique_ptr<MemoryImport>> connect(
      const RdmaOffer& offer, std::span<const DestinationMemory::Region> regions,
      std::chrono::milliseconds timeout) = 0;
};

// Makes a transport whose threads and memory are placed as `bind` says (TransportPolicy). Empty:
// the program has none.
using OneSidedFactory =
    std::function<Result<std::unique_ptr<OneSidedTransport>>(const std::string& bind)>;

}  // namespace vmhop
