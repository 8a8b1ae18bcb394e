// The Verilated board: clock, reset, and its UART on a file descriptor (a pseudo-terminal).
//
// Between the file and the pins lies a channel that loses and changes bytes, seeded and counted.

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>

#include "Vboard.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

constexpr unsigned kResetCycles = 8;
constexpr unsigned kDataBits = 8;
// The file is looked at as often as this; a byte takes at least ten times as long.
constexpr uint64_t kPollCycles = 64;
// Cycles of silence after which an idle board waits for the host instead of burning time.
constexpr uint64_t kQuietCycles = 4096;
constexpr int kQuietMilliseconds = 1;
constexpr uint8_t kFlag = 0x7E;

struct Counts {
  uint64_t cycles, to_device, to_host, lost, corrupted;
};

// Loses and changes bytes with given probabilities.
class Channel {
 public:
  Channel(double loss, double corruption, uint64_t seed)
      : loss_(loss), corruption_(corruption), random_(seed) {}

  // Return whether the byte arrives, perhaps as another one.
  bool pass(uint8_t* byte, Counts* counts) {
    if (chance_(random_) < loss_) {
      ++counts->lost;
      return false;
    }
    if (chance_(random_) < corruption_) {
      *byte ^= static_cast<uint8_t>(1 + random_() % 255);
      ++counts->corrupted;
    }
    return true;
  }

 private:
  double loss_, corruption_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> chance_{0.0, 1.0};
};

class Board {
 public:
  Board(int file, uint32_t clocks, double loss, double corruption, uint64_t seed)
      : file_(file),
        clocks_(clocks),
        to_device_(loss, corruption, 2 * seed),
        to_host_(loss, corruption, 2 * seed + 1) {
    Verilated::threadContextp(&context_);
    top_ = std::make_unique<Vboard>(&context_);
    top_->rx = 1;
    top_->rst = 1;
    for (unsigned n = 0; n < kResetCycles; ++n) tick();
    top_->rst = 0;
  }

  ~Board() {
    Verilated::threadContextp(&context_);
    top_->final();
    top_.reset();
    Verilated::threadContextp(Verilated::defaultContextp());
  }

  // Simulate; return false when the file cannot be used any more.
  bool run(uint64_t cycles) {
    // A model belongs to the thread that runs it.
    Verilated::threadContextp(&context_);
    for (const uint64_t end = counts_.cycles + cycles; counts_.cycles < end;) {
      if (counts_.cycles % kPollCycles == 0 && !exchange()) return false;
      send();
      tick();
      receive();
    }
    return true;
  }

  const Counts& counts() const { return counts_; }

 private:
  void tick() {
    top_->clk = 0;
    top_->eval();
    top_->clk = 1;
    top_->eval();
    ++counts_.cycles;
  }

  // Move bytes between the file and the channel. A board that has answered waits for the host.
  bool exchange() {
    if (answered_ && counts_.cycles - last_activity_ > kQuietCycles) {
      pollfd wait{file_, POLLIN, 0};
      poll(&wait, 1, kQuietMilliseconds);
    }
    uint8_t buffer[256];
    const ssize_t size = read(file_, buffer, sizeof buffer);
    // A pseudo-terminal reports an error while nobody has it open on the other side.
    if (size < 0 && errno != EAGAIN && errno != EIO && errno != EINTR) return false;
    for (ssize_t n = 0; n < size; ++n) {
      uint8_t byte = buffer[n];
      ++counts_.to_device;
      if (to_device_.pass(&byte, &counts_)) line_.push_back(byte);
      answered_ = false;
      last_activity_ = counts_.cycles;
    }
    while (!sent_.empty()) {
      const ssize_t done = write(file_, &sent_.front(), 1);
      if (done < 0 && errno != EAGAIN && errno != EIO && errno != EINTR) return false;
      if (done < 1) break;
      sent_.pop_front();
    }
    return true;
  }

  // Drive `rx`: start bit, data from the lowest bit, stop bit.
  void send() {
    if (!bit_clocks_) {
      if (!bits_) {
        if (line_.empty()) return;
        shift_ = static_cast<uint32_t>(line_.front()) << 1 | 1u << (kDataBits + 1);
        line_.pop_front();
        bits_ = kDataBits + 2;
      }
      top_->rx = shift_ & 1;
      shift_ >>= 1;
      --bits_;
      bit_clocks_ = clocks_;
    }
    --bit_clocks_;
  }

  // Sample `tx` in the middle of its bits.
  void receive() {
    if (!receiving_) {
      if (top_->tx) return;
      receiving_ = true;
      position_ = 0;
      sample_in_ = clocks_ / 2;
      last_activity_ = counts_.cycles;
    }
    if (sample_in_--) return;
    sample_in_ = clocks_ - 1;
    if (position_ > 0 && position_ <= kDataBits)
      byte_ = static_cast<uint8_t>(byte_ >> 1 | (top_->tx ? 0x80 : 0));
    if (position_++ <= kDataBits) return;
    receiving_ = false;
    ++counts_.to_host;
    // A board that has sent a flag may have sent a whole answer.
    answered_ = byte_ == kFlag;
    uint8_t byte = byte_;
    if (to_host_.pass(&byte, &counts_)) sent_.push_back(byte);
  }

  VerilatedContext context_;
  std::unique_ptr<Vboard> top_;
  const int file_;
  const uint32_t clocks_;
  Channel to_device_, to_host_;
  Counts counts_{};
  std::deque<uint8_t> line_, sent_;
  uint32_t shift_ = 0, bits_ = 0, bit_clocks_ = 0;
  bool receiving_ = false, answered_ = true;
  uint32_t position_ = 0, sample_in_ = 0;
  uint64_t last_activity_ = 0;
  uint8_t byte_ = 0;
};

Board* cast(void* handle) { return static_cast<Board*>(handle); }

}  // namespace

extern "C" {

void* board_create(int file, uint32_t clocks, double loss, double corruption, uint64_t seed) {
  return new Board(file, clocks, loss, corruption, seed);
}
void board_destroy(void* handle) { delete cast(handle); }
int board_run(void* handle, uint64_t cycles) { return cast(handle)->run(cycles); }
Counts board_counts(void* handle) { return cast(handle)->counts(); }
}
