// C interface of the RTL device: a Verilated core with its bus models, run many cycles per call.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "Vdevice.h"
#include "Vdevice___024root.h"
#include "axi_memory.hpp"
#include "campaign.hpp"
#include "verilated.h"
#ifdef WAVES
#include "verilated_fst_c.h"
#endif

namespace {

using systolith::AxiLiteMaster;
using systolith::AxiMemory;
using systolith::MemoryOptions;

constexpr unsigned kEngines = 4;
constexpr unsigned kResetCycles = 8;
constexpr uint64_t kRegisterLimit = 10000;  // cycles in which a register access must be answered

struct Event {
  uint64_t cycle;
  uint32_t engine;
  uint32_t count;
};

// What the engines did from a cycle on: the performance counters' events, one bit each.
struct State {
  uint64_t cycle;
  uint64_t events;
};

// The register of these events, or zero in a design without performance counters.
template <class Root>
uint64_t events_of(const Root& root) {
  if constexpr (requires { root.pins__DOT__systolith__DOT__core__DOT__counters__DOT__events; })
    return root.pins__DOT__systolith__DOT__core__DOT__counters__DOT__events;
  else
    return 0;
}

class Simulator {
 public:
  Simulator(const MemoryOptions& options, const char* waves) : memory_(options) {
    Verilated::threadContextp(&context_);
    top_ = std::make_unique<Vdevice>(&context_);
#ifdef WAVES
    if (waves) {
      context_.traceEverOn(true);
      waves_ = std::make_unique<VerilatedFstC>();
      top_->trace(waves_.get(), 99);
      waves_->open(waves);
    }
#else
    (void)waves;
#endif
    reset();
  }

  // Reset the core and both bus models; DRAM keeps its contents.
  void reset() {
    memory_.reset();
    control_ = {};
    top_->ap_rst_n = 0;
    run_cycles(kResetCycles);
    top_->ap_rst_n = 1;
    tick();
  }

  ~Simulator() {
#ifdef WAVES
    if (waves_) waves_->close();
#endif
    // A model unregisters from the context of the thread, which may be that of another simulator.
    Verilated::threadContextp(&context_);
    top_->final();
    top_.reset();
    Verilated::threadContextp(Verilated::defaultContextp());
  }

  AxiMemory& memory() { return memory_; }
  uint64_t cycle() const { return cycle_; }
  const std::vector<Event>& timeline() const { return timeline_; }

  bool write_register(uint32_t addr, uint32_t value) {
    control_.write(addr, value);
    return finish_access();
  }

  bool read_register(uint32_t addr, uint32_t* value) {
    control_.read(addr);
    const bool answered = finish_access();
    *value = control_.data();
    return answered;
  }

  // Forget what happened before the last register write, and count cycles from there.
  void begin_timeline() {
    origin_ = control_.written();
    std::erase_if(timeline_, [this](const Event& event) { return event.cycle < origin_; });
    states_.clear();
    events_ = 0;
  }
  uint64_t origin() const { return origin_; }

  // Keep the states of the engines under `mask`, or none if that is zero.
  void record_states(uint64_t mask) { state_mask_ = mask; }
  const std::vector<State>& states() const { return states_; }

  void run_cycles(uint64_t cycles) {
    for (uint64_t n = 0; n < cycles; ++n) tick();
  }

  bool wait_interrupt(uint64_t limit) {
    for (uint64_t n = 0; n < limit && !interrupt(); ++n) tick();
    return interrupt();
  }

 private:
  // Verilator renames the port, because some compilers reserve the word.
  bool interrupt() const { return top_->__SYM__interrupt; }

  bool finish_access() {
    for (uint64_t n = 0; n < kRegisterLimit && control_.busy(); ++n) tick();
    return !control_.busy() && control_.response() == systolith::kOkay;
  }

  // One clock edge, and the cycle behind it. The shell around the core registers its inputs with that
  // edge, so nothing depends on a pin while the clock is low, and all logic is evaluated once.
  void tick() {
    control_.drive(*top_);
    memory_.drive(*top_);
    top_->ap_clk = 0;
    top_->eval();
    dump(2 * cycle_);
    top_->ap_clk = 1;
    top_->eval();
    dump(2 * cycle_ + 1);
    ++cycle_;
    record_progress();
    if (state_mask_) record_state();
    if (top_->ap_rst_n) {
      control_.sample(*top_, cycle_);
      memory_.sample(*top_, cycle_);
    }
  }

  void record_state() {
    const uint64_t events = events_of(*top_->rootp) & state_mask_;
    if (events == events_) return;
    events_ = events;
    // The register shows what happened in the cycle before the last edge.
    states_.push_back({cycle_ - 1, events});
  }

  void record_progress() {
    const auto& root = *top_->rootp;
    const std::array<uint32_t, kEngines> counts = {
        root.pins__DOT__systolith__DOT__progress_load, root.pins__DOT__systolith__DOT__progress_execute,
        root.pins__DOT__systolith__DOT__progress_drain, root.pins__DOT__systolith__DOT__progress_store};
    if (counts == counts_) return;
    for (unsigned engine = 0; engine < kEngines; ++engine)
      if (counts[engine] != counts_[engine]) timeline_.push_back({cycle_, engine, counts[engine]});
    counts_ = counts;
  }

  void dump(uint64_t time) {
#ifdef WAVES
    if (waves_) waves_->dump(time);
#else
    (void)time;
#endif
  }

  VerilatedContext context_;
  std::unique_ptr<Vdevice> top_;
#ifdef WAVES
  std::unique_ptr<VerilatedFstC> waves_;
#endif
  AxiMemory memory_;
  AxiLiteMaster control_;
  uint64_t cycle_ = 0, origin_ = 0;
  std::vector<Event> timeline_;
  std::array<uint32_t, kEngines> counts_{};
  uint64_t state_mask_ = 0, events_ = 0;
  std::vector<State> states_;
};

Simulator* cast(void* handle) { return static_cast<Simulator*>(handle); }

}  // namespace

extern "C" {

void* sim_create(uint64_t base, uint64_t size, uint32_t latency, uint32_t outstanding, double stall,
                 uint64_t seed, const char* waves) {
  MemoryOptions options{base, size, latency, outstanding, stall, seed};
  return new Simulator(options, waves);
}
void sim_destroy(void* handle) { delete cast(handle); }
uint8_t* sim_memory(void* handle) { return cast(handle)->memory().bytes(); }
uint64_t sim_cycle(void* handle) { return cast(handle)->cycle(); }
int sim_write_register(void* handle, uint32_t addr, uint32_t value) {
  return cast(handle)->write_register(addr, value);
}
int sim_read_register(void* handle, uint32_t addr, uint32_t* value) {
  return cast(handle)->read_register(addr, value);
}
int sim_wait_interrupt(void* handle, uint64_t limit) { return cast(handle)->wait_interrupt(limit); }
void sim_begin_timeline(void* handle) { cast(handle)->begin_timeline(); }
uint64_t sim_timeline_origin(void* handle) { return cast(handle)->origin(); }
uint64_t sim_timeline_size(void* handle) { return cast(handle)->timeline().size(); }
const Event* sim_timeline(void* handle) { return cast(handle)->timeline().data(); }
void sim_record_states(void* handle, uint64_t mask) { cast(handle)->record_states(mask); }
uint64_t sim_states_size(void* handle) { return cast(handle)->states().size(); }
const State* sim_states(void* handle) { return cast(handle)->states().data(); }
uint64_t sim_violations(void* handle) { return cast(handle)->memory().violations(); }
const char* sim_first_violation(void* handle) {
  return cast(handle)->memory().first_violation().c_str();
}
void sim_inject_error(void* handle, int write, uint64_t addr, uint64_t size, uint32_t response) {
  cast(handle)->memory().inject(write != 0, addr, size, response);
}
void sim_clear_errors(void* handle) { cast(handle)->memory().clear_injected(); }
void sim_watch(void* handle, const systolith::Window* windows, uint64_t count) {
  cast(handle)->memory().watch(windows, count);
}
void sim_run_jobs(void* handle, const systolith::Campaign* campaign, const uint8_t* codes,
                  const systolith::Job* jobs, uint64_t count, systolith::Outcome* outcomes) {
  systolith::JobRunner runner(*cast(handle), *campaign);
  runner.reset();
  for (uint64_t n = 0; n < count; ++n) outcomes[n] = runner.run(codes, jobs[n]);
}
}
