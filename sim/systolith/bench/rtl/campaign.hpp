// Many short programs in one call: what happens to the bus or the reset during each, and how it ended.
//
// After each program a probe may run: a good program of which every byte of the result is known.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "axi_memory.hpp"

namespace systolith {

// A register and the value that it gets after each reset.
struct Setting {
  uint32_t addr, value;
};

// Addresses of the registers that a run needs; the register map is declared elsewhere.
struct RegisterMap {
  uint32_t program_count, control, status, irq_status, fault, fault_index, fault_addr_lo,
      fault_addr_hi, progress[4];
};

// What all jobs of a call have in common.
struct Campaign {
  RegisterMap map;
  uint32_t settings_count, probe_count;
  const Setting* settings;    // written after each reset
  uint64_t code_addr;         // DRAM address of region 0, which the jobs' code fills from its start
  uint64_t code_size;         // bytes of region 0; what a job does not fill is zero
  const uint8_t* probe;       // code of the probe, or null
  uint64_t result_addr;       // DRAM that the probe writes: wiped before it, compared after it
  uint64_t result_size;
  const uint8_t* expected;    // its bytes after the probe
};

enum Action : uint32_t {
  kNothing = 0,
  kReadError = 1,   // read beat `at` is answered with `argument`
  kWriteError = 2,  // write burst `at` is answered with `argument`
  kHang = 3,        // channel `argument` stops after `at` transfers, until the fault is reported
  kHangReset = 4,   // the same, and only a reset ends it
  kReset = 5,       // reset `at` cycles after the doorbell
  kAbort = 6,       // software aborts `at` cycles after the doorbell
};

struct Job {
  uint64_t source;    // byte of the codes where the job's begins
  uint32_t size;      // bytes of it
  uint32_t count;     // value of PROGRAM_COUNT
  uint32_t action, argument;
  uint64_t at;
  uint64_t limit;     // cycles in which the interrupt must rise, and then BUSY must fall
};

enum Flags : uint32_t {
  kSilent = 1,      // no interrupt within the limit
  kBusy = 2,        // busy after the limit
  kUnanswered = 4,  // a register did not answer with OKAY
  kProbe = 8,       // the probe did not end as it must, or left other bytes
};

struct Outcome {
  uint64_t cycles;  // from doorbell to interrupt
  uint64_t fault_addr, failed_addr;  // what the core reports, and what the memory failed
  uint32_t status, fault, fault_index, flags;
  uint32_t progress[4];          // instructions completed by each engine, if a channel hung
  uint32_t violations, outside;  // broken rules of AXI, and bytes and beats outside the windows
};

template <class Simulator>
class JobRunner {
 public:
  JobRunner(Simulator& simulator, const Campaign& campaign)
      : sim_(simulator), memory_(simulator.memory()), campaign_(campaign) {}

  Outcome run(const uint8_t* codes, const Job& job) {
    outcome_ = {};
    const uint64_t violations = memory_.violations(), outside = memory_.outside();
    put_code(codes + job.source, job.size);
    arm(job);
    start(job.count);
    if (job.action == kReset || job.action == kAbort) sim_.run_cycles(job.at);
    if (job.action == kReset) {
      reset();
    } else {
      if (job.action == kAbort) write(campaign_.map.control, kAbortBit);
      finish(job);
    }
    outcome_.failed_addr = memory_.failed_addr();
    if (campaign_.probe) probe(job.limit);
    outcome_.violations = static_cast<uint32_t>(memory_.violations() - violations);
    outcome_.outside = static_cast<uint32_t>(memory_.outside() - outside);
    return outcome_;
  }

  void reset() {
    memory_.clear_injected();
    sim_.reset();
    for (uint32_t n = 0; n < campaign_.settings_count; ++n)
      write(campaign_.settings[n].addr, campaign_.settings[n].value);
  }

 private:
  static constexpr uint32_t kStartBit = 1, kAbortBit = 2, kEvents = 3;
  static constexpr uint32_t kBusyBit = 1, kDoneBit = 2;
  static constexpr uint8_t kWiped = 0xa5;

  void put_code(const uint8_t* code, uint64_t size) {
    uint8_t* region = memory_.at(campaign_.code_addr);
    size = std::min(size, campaign_.code_size);
    std::memcpy(region, code, size);
    std::memset(region + size, 0, campaign_.code_size - size);
  }

  void arm(const Job& job) {
    memory_.arm();
    if (job.action == kReadError) memory_.fail_read(job.at, job.argument);
    if (job.action == kWriteError) memory_.fail_write(job.at, job.argument);
    if (job.action == kHang || job.action == kHangReset) memory_.hang(job.argument, job.at);
  }

  void start(uint32_t count) {
    write(campaign_.map.program_count, count);
    write(campaign_.map.control, kStartBit);
    sim_.begin_timeline();
  }

  // Wait for the end of the program and note how it ended.
  void finish(const Job& job) {
    const uint64_t begin = sim_.origin();
    if (!sim_.wait_interrupt(job.limit)) outcome_.flags |= kSilent;
    outcome_.cycles = sim_.cycle() - begin;
    outcome_.status = read(campaign_.map.status);
    outcome_.fault = read(campaign_.map.fault);
    if (outcome_.fault) {
      outcome_.fault_index = read(campaign_.map.fault_index);
      outcome_.fault_addr = read(campaign_.map.fault_addr_lo);
      outcome_.fault_addr |= uint64_t{read(campaign_.map.fault_addr_hi)} << 32;
    }
    for (unsigned n = 0; n < 4 && (job.action == kHang || job.action == kHangReset); ++n)
      outcome_.progress[n] = read(campaign_.map.progress[n]);
    write(campaign_.map.irq_status, kEvents);
    memory_.clear_injected();
    if (job.action == kHangReset || (outcome_.flags & (kSilent | kUnanswered)))
      reset();
    else
      wait_idle(job.limit);
  }

  void wait_idle(uint64_t limit) {
    const uint64_t end = sim_.cycle() + limit;
    uint32_t status = outcome_.status;
    while ((status & kBusyBit) && sim_.cycle() < end) status = read(campaign_.map.status);
    if (status & kBusyBit) {
      outcome_.flags |= kBusy;
      reset();
    }
  }

  void probe(uint64_t limit) {
    std::memset(memory_.at(campaign_.result_addr), kWiped, campaign_.result_size);
    put_code(campaign_.probe, campaign_.code_size);
    start(campaign_.probe_count);
    const bool ended = sim_.wait_interrupt(limit);
    const uint32_t status = read(campaign_.map.status);
    write(campaign_.map.irq_status, kEvents);
    if (!ended || status != kDoneBit ||
        std::memcmp(memory_.at(campaign_.result_addr), campaign_.expected, campaign_.result_size)) {
      outcome_.flags |= kProbe;
      reset();
    }
  }

  void write(uint32_t addr, uint32_t value) {
    if (!sim_.write_register(addr, value)) outcome_.flags |= kUnanswered;
  }

  uint32_t read(uint32_t addr) {
    uint32_t value = 0;
    if (!sim_.read_register(addr, &value)) outcome_.flags |= kUnanswered;
    return value;
  }

  Simulator& sim_;
  AxiMemory& memory_;
  const Campaign& campaign_;
  Outcome outcome_{};
};

}  // namespace systolith
