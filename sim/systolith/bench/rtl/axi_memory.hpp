// DRAM behind an AXI4 port, and the master of an AXI4-Lite port: the two bus models of the RTL device.
//
// Both are clocked by calls: drive() puts the outputs of the next cycle on the pins before the clock
// edge, and sample() looks at the settled pins behind it and decides what comes then. No output depends
// on a pin of the same cycle.

#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#ifndef AXI_BYTES
#error "AXI_BYTES must be the bytes of an AXI beat"
#endif

namespace systolith {

constexpr uint64_t kBoundary = 4096;
constexpr uint32_t kOkay = 0, kSlverr = 2, kDecerr = 3;
constexpr uint32_t kIncr = 1;
constexpr uint32_t kCache = 0b0011;
constexpr uint64_t kNever = ~uint64_t{0};

using Beat = std::array<uint8_t, AXI_BYTES>;

// Bytes of DRAM that the core may touch, and how.
struct Window {
  uint64_t addr, size;
  uint32_t read, write;
};

enum Channel : uint32_t { kAr, kR, kAw, kW, kB, kChannels };

// Random source of the stalls: splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint32_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
  }

 private:
  uint64_t state_;
};

struct MemoryOptions {
  uint64_t base = 0;         // device address of the first byte
  uint64_t size = 0;         // bytes
  uint32_t latency = 0;      // cycles from AR to the first R beat, and from the last W beat to B
  uint32_t outstanding = 0;  // bursts accepted and not yet answered, per direction
  double stall = 0.0;        // probability, per cycle and channel, of not offering VALID or READY
  uint64_t seed = 0;
};

// AXI4 memory: reads are answered in order after `latency` cycles, then one beat per cycle; writes
// are taken at one beat per cycle. It checks what the master may do wrong and keeps the first finding.
class AxiMemory {
 public:
  explicit AxiMemory(const MemoryOptions& options)
      : options_(options),
        bytes_(static_cast<uint8_t*>(std::calloc(options.size, 1))),
        random_(options.seed),
        threshold_(static_cast<uint64_t>(options.stall * 4294967296.0)) {}
  ~AxiMemory() { std::free(bytes_); }
  AxiMemory(const AxiMemory&) = delete;
  AxiMemory& operator=(const AxiMemory&) = delete;

  uint8_t* bytes() { return bytes_; }
  uint64_t violations() const { return violations_; }
  const std::string& first_violation() const { return first_violation_; }

  // Answer bursts that touch `size` bytes at `addr` with `response`.
  void inject(bool write, uint64_t addr, uint64_t size, uint32_t response) {
    (write ? write_errors_ : read_errors_).push_back({addr, size, response});
  }
  void clear_injected() {
    write_errors_.clear();
    read_errors_.clear();
    failing_read_ = failing_write_ = hanging_ = kNever;
  }

  uint8_t* at(uint64_t addr) { return bytes_ + (addr - options_.base); }

  // Count read beats that touch no byte of a readable window, and bytes written outside the writable
  // ones; without windows, nothing is counted.
  void watch(const Window* windows, uint64_t count) { windows_.assign(windows, windows + count); }
  uint64_t outside() const { return outside_; }

  // Count transfers from here on: what fails or hangs is named by its number.
  void arm() {
    transfers_.fill(0);
    failed_addr_ = 0;
  }
  // Address of the beat or burst that failed by its number, or zero.
  uint64_t failed_addr() const { return failed_addr_; }
  void fail_read(uint64_t beat, uint32_t response) {
    failing_read_ = beat;
    failing_response_ = response;
  }
  void fail_write(uint64_t burst, uint32_t response) {
    failing_write_ = burst;
    failing_response_ = response;
  }
  // Stop a channel after some transfers, until clear_injected().
  void hang(uint32_t channel, uint64_t transfers) {
    hanging_channel_ = channel;
    hanging_ = transfers;
  }

  // Forget what is in flight, as at a reset of the bus.
  void reset() {
    reads_.clear();
    writes_.clear();
    answers_.clear();
    beats_.clear();
    held_ar_ = held_aw_ = held_w_ = {};
    r_valid_ = b_valid_ = ar_ready_ = aw_ready_ = w_ready_ = false;
  }

  template <class Top>
  void drive(Top& top) {
    top.m_axi_gmem_arready = ar_ready_;
    top.m_axi_gmem_rvalid = r_valid_;
    if (r_valid_) {
      std::memcpy(&top.m_axi_gmem_rdata, r_data_.data(), AXI_BYTES);
      top.m_axi_gmem_rresp = r_response_;
      top.m_axi_gmem_rlast = r_last_;
      if constexpr (requires { top.m_axi_gmem_rid; }) top.m_axi_gmem_rid = 0;
    }
    top.m_axi_gmem_awready = aw_ready_;
    top.m_axi_gmem_wready = w_ready_;
    top.m_axi_gmem_bvalid = b_valid_;
    top.m_axi_gmem_bresp = b_response_;
    if constexpr (requires { top.m_axi_gmem_bid; }) top.m_axi_gmem_bid = 0;
  }

  template <class Top>
  void sample(Top& top, uint64_t cycle) {
    cycle_ = cycle;
    sample_read(top);
    sample_write(top);
  }

 private:
  struct Burst {
    uint64_t addr;
    uint32_t beats;
    uint32_t beat;
    uint32_t response;
    uint64_t due;  // first cycle in which an answer may be transferred
  };
  struct Range {
    uint64_t addr, size;
    uint32_t response;
  };
  struct WriteBeat {
    Beat data;
    uint64_t strobes;
    bool last;
  };
  // What a channel showed in a cycle without READY; it must show the same in the next.
  struct Held {
    bool valid = false;
    uint64_t addr = 0, control = 0;
    Beat data{};
  };

  template <class Top>
  void sample_read(Top& top) {
    check_held(held_ar_, top.m_axi_gmem_arvalid, ar_ready_, top.m_axi_gmem_araddr,
               top.m_axi_gmem_arlen, nullptr, "AR");
    if (top.m_axi_gmem_arvalid && ar_ready_) {
      ++transfers_[kAr];
      check_attributes(top.m_axi_gmem_arsize, top.m_axi_gmem_arburst, "AR");
      if constexpr (requires { top.m_axi_gmem_arcache; })
        check_quality(top.m_axi_gmem_arcache, top.m_axi_gmem_arprot, "AR");
      reads_.push_back(make_burst(top.m_axi_gmem_araddr, top.m_axi_gmem_arlen, read_errors_, "AR"));
      reads_.back().due = cycle_ + options_.latency;
    }
    if (r_valid_ && top.m_axi_gmem_rready) {
      ++transfers_[kR];
      r_valid_ = false;
    }
    if (!r_valid_ && !reads_.empty() && cycle_ + 1 >= reads_.front().due && !stalled() && !hangs(kR))
      offer_read();
    ar_ready_ = reads_.size() < options_.outstanding && !stalled() && !hangs(kAr);
  }

  void offer_read() {
    Burst& burst = reads_.front();
    const uint64_t addr = burst.addr + uint64_t{burst.beat} * AXI_BYTES;
    if (!windows_.empty() && !readable(addr)) ++outside_;
    r_response_ = burst.response;
    if (transfers_[kR] == failing_read_) {
      r_response_ = failing_response_;
      failed_addr_ = addr;
    }
    if (r_response_ == kOkay)
      std::memcpy(r_data_.data(), bytes_ + (addr - options_.base), AXI_BYTES);
    else
      r_data_.fill(0xee);
    r_last_ = ++burst.beat == burst.beats;
    r_valid_ = true;
    if (r_last_) reads_.pop_front();
  }

  template <class Top>
  void sample_write(Top& top) {
    Beat data;
    std::memcpy(data.data(), &top.m_axi_gmem_wdata, AXI_BYTES);
    check_held(held_aw_, top.m_axi_gmem_awvalid, aw_ready_, top.m_axi_gmem_awaddr,
               top.m_axi_gmem_awlen, nullptr, "AW");
    check_held(held_w_, top.m_axi_gmem_wvalid, w_ready_, top.m_axi_gmem_wstrb,
               top.m_axi_gmem_wlast, &data, "W");
    if (top.m_axi_gmem_awvalid && aw_ready_) {
      ++transfers_[kAw];
      check_attributes(top.m_axi_gmem_awsize, top.m_axi_gmem_awburst, "AW");
      if constexpr (requires { top.m_axi_gmem_awcache; })
        check_quality(top.m_axi_gmem_awcache, top.m_axi_gmem_awprot, "AW");
      writes_.push_back(
          make_burst(top.m_axi_gmem_awaddr, top.m_axi_gmem_awlen, write_errors_, "AW"));
      if (transfers_[kAw] - 1 == failing_write_) {
        writes_.back().response = failing_response_;
        failed_addr_ = writes_.back().addr;
      }
    }
    if (top.m_axi_gmem_wvalid && w_ready_) {
      ++transfers_[kW];
      beats_.push_back({data, uint64_t{top.m_axi_gmem_wstrb}, top.m_axi_gmem_wlast != 0});
    }
    while (!beats_.empty() && !writes_.empty()) store();
    if (b_valid_ && top.m_axi_gmem_bready) {
      ++transfers_[kB];
      b_valid_ = false;
    }
    if (!b_valid_ && !answers_.empty() && cycle_ + 1 >= answers_.front().due && !stalled() &&
        !hangs(kB)) {
      b_response_ = answers_.front().response;
      b_valid_ = true;
      answers_.pop_front();
    }
    aw_ready_ =
        writes_.size() + answers_.size() < options_.outstanding && !stalled() && !hangs(kAw);
    // Data may come before its address, but not without bound.
    w_ready_ = beats_.size() < 256 && !stalled() && !hangs(kW);
  }

  void store() {
    Burst& burst = writes_.front();
    const WriteBeat& beat = beats_.front();
    const uint64_t addr = burst.addr + uint64_t{burst.beat} * AXI_BYTES;
    for (unsigned lane = 0; !windows_.empty() && lane < AXI_BYTES; ++lane)
      if ((beat.strobes >> lane & 1) && !writable(addr + lane)) ++outside_;
    for (unsigned lane = 0; burst.response == kOkay && lane < AXI_BYTES; ++lane)
      if (beat.strobes >> lane & 1) bytes_[addr - options_.base + lane] = beat.data[lane];
    const bool last = ++burst.beat == burst.beats;
    if (last != beat.last) violate("WLAST", addr, "is not on the last beat of its burst");
    beats_.pop_front();
    if (last) {
      burst.due = cycle_ + options_.latency;
      answers_.push_back(burst);
      writes_.pop_front();
    }
  }

  Burst make_burst(uint64_t addr, uint32_t length, const std::vector<Range>& errors,
                   const char* channel) {
    const uint32_t beats = length + 1;
    const uint64_t start = addr & ~uint64_t{AXI_BYTES - 1};
    const uint64_t size = uint64_t{beats} * AXI_BYTES;
    Burst burst{start, beats, 0, kOkay, 0};
    if (start / kBoundary != (start + size - 1) / kBoundary)
      violate(channel, addr, "burst crosses a multiple of 4096 bytes");
    if (start < options_.base || start - options_.base + size > options_.size) {
      violate(channel, addr, "burst leaves the memory");
      burst.response = kDecerr;
    }
    for (const Range& range : errors)
      if (start < range.addr + range.size && range.addr < start + size)
        burst.response = range.response;
    return burst;
  }

  void check_attributes(uint32_t size, uint32_t burst, const char* channel) {
    if ((1u << size) != AXI_BYTES) violate(channel, size, "size is not the full width");
    if (burst != kIncr) violate(channel, burst, "burst type is not INCR");
  }

  void check_quality(uint32_t cache, uint32_t prot, const char* channel) {
    if (cache != kCache || prot != 0) violate(channel, cache, "cache or protection differ");
  }

  void check_held(Held& held, bool valid, bool ready, uint64_t addr, uint64_t control,
                  const Beat* data, const char* channel) {
    if (held.valid && (!valid || addr != held.addr || control != held.control ||
                       (data && *data != held.data)))
      violate(channel, held.addr, "changed before READY");
    held.valid = valid && !ready;
    if (held.valid) {
      held.addr = addr;
      held.control = control;
      if (data) held.data = *data;
    }
  }

  void violate(const char* channel, uint64_t value, const char* rule) {
    if (violations_++ == 0) {
      char text[160];
      std::snprintf(text, sizeof text, "%s %s (%#llx) in cycle %llu", channel, rule,
                    static_cast<unsigned long long>(value),
                    static_cast<unsigned long long>(cycle_));
      first_violation_ = text;
    }
  }

  bool readable(uint64_t beat) const {
    for (const Window& w : windows_)
      if (w.read && beat < w.addr + w.size && w.addr < beat + AXI_BYTES) return true;
    return false;
  }

  bool writable(uint64_t addr) const {
    for (const Window& w : windows_)
      if (w.write && addr >= w.addr && addr < w.addr + w.size) return true;
    return false;
  }

  bool hangs(Channel channel) const {
    return hanging_channel_ == channel && transfers_[channel] >= hanging_;
  }

  bool stalled() { return threshold_ && random_.next() < threshold_; }

  const MemoryOptions options_;
  uint8_t* bytes_;
  Random random_;
  const uint64_t threshold_;
  uint64_t cycle_ = 0, violations_ = 0;
  std::string first_violation_;
  std::vector<Range> read_errors_, write_errors_;
  std::vector<Window> windows_;
  uint64_t outside_ = 0, failed_addr_ = 0;
  std::array<uint64_t, kChannels> transfers_{};
  uint64_t failing_read_ = kNever, failing_write_ = kNever, hanging_ = kNever;
  uint32_t failing_response_ = kOkay, hanging_channel_ = kAr;

  std::deque<Burst> reads_, writes_, answers_;
  std::deque<WriteBeat> beats_;
  Held held_ar_, held_aw_, held_w_;
  Beat r_data_{};
  uint32_t r_response_ = 0, b_response_ = 0;
  bool r_valid_ = false, r_last_ = false, b_valid_ = false;
  bool ar_ready_ = false, aw_ready_ = false, w_ready_ = false;
};

// Master of the register port: one access at a time, address and data of a write offered together.
class AxiLiteMaster {
 public:
  void write(uint32_t addr, uint32_t data) {
    addr_ = addr;
    data_ = data;
    aw_valid_ = w_valid_ = b_ready_ = true;
  }
  void read(uint32_t addr) {
    addr_ = addr;
    ar_valid_ = r_ready_ = true;
  }
  bool busy() const { return b_ready_ || r_ready_; }
  uint32_t data() const { return data_; }
  uint32_t response() const { return response_; }
  // Cycle in which the data of the last write was taken.
  uint64_t written() const { return written_; }

  template <class Top>
  void drive(Top& top) {
    top.s_axi_control_awaddr = top.s_axi_control_araddr = addr_;
    top.s_axi_control_wdata = data_;
    top.s_axi_control_wstrb = 0xf;
    top.s_axi_control_awvalid = aw_valid_;
    top.s_axi_control_wvalid = w_valid_;
    top.s_axi_control_bready = b_ready_;
    top.s_axi_control_arvalid = ar_valid_;
    top.s_axi_control_rready = r_ready_;
  }

  template <class Top>
  void sample(Top& top, uint64_t cycle) {
    if (aw_valid_ && top.s_axi_control_awready) aw_valid_ = false;
    if (w_valid_ && top.s_axi_control_wready) {
      w_valid_ = false;
      written_ = cycle;
    }
    if (ar_valid_ && top.s_axi_control_arready) ar_valid_ = false;
    if (b_ready_ && top.s_axi_control_bvalid) {
      b_ready_ = false;
      response_ = top.s_axi_control_bresp;
    }
    if (r_ready_ && top.s_axi_control_rvalid) {
      r_ready_ = false;
      data_ = top.s_axi_control_rdata;
      response_ = top.s_axi_control_rresp;
    }
  }

 private:
  uint32_t addr_ = 0, data_ = 0, response_ = 0;
  uint64_t written_ = 0;
  bool aw_valid_ = false, w_valid_ = false, b_ready_ = false, ar_valid_ = false, r_ready_ = false;
};

}  // namespace systolith
