// Every memory of the accelerator, in two modules that synthesis tools infer storage from.
//
// An ASIC flow replaces these modules by its macros: the manifest of the package lists the
// shapes (module, WIDTH, DEPTH, LANES) that the design uses, and how often.
//
// Rules that the design relies on, and that a replacement must obey
//   1. A write in cycle t is visible to reads that start in cycle t + 1.
//   2. systolith_ram: r_data changes only at the clock edges where r_en is high, and then shows
//      the word that r_addr selects; it is held otherwise.
//   3. systolith_lutram: r_data follows r_addr and the contents without a clock.
//   4. w_en[lane] writes bits (lane + 1) * WIDTH / LANES - 1 : lane * WIDTH / LANES, no others.
// What it does not rely on
//   - Read during write, both at one address in one cycle: these models give the old word. The
//     design never uses such a word, so a macro may return anything.
//   - Contents after power-on: undefined here, and never used before they are written.
//   - Addresses of DEPTH and above: never used with an enable.

`default_nettype none

// Simple dual port: one write port, one synchronous read port, one clock. Infers block RAM.
module systolith_ram #(
    parameter WIDTH = 32,      // bits of a word
    parameter DEPTH = 64,      // words
    parameter ADDR_BITS = 6,   // bits of an address
    parameter LANES = 1        // write enables; divides WIDTH
) (
    input  wire                 clk,
    input  wire [LANES-1:0]     w_en,
    input  wire [ADDR_BITS-1:0] w_addr,
    input  wire [WIDTH-1:0]     w_data,
    input  wire                 r_en,
    input  wire [ADDR_BITS-1:0] r_addr,
    output reg  [WIDTH-1:0]     r_data
);
  localparam LANE_BITS = WIDTH / LANES;

  // No logic is needed for collisions: the names are those of Yosys and of Vivado.
  (* no_rw_check, rw_addr_collision = "no" *)
  reg [WIDTH-1:0] words [0:DEPTH-1];

  genvar lane;
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : write_lane
      always @(posedge clk) begin
        if (w_en[lane])
          words[w_addr][lane*LANE_BITS +: LANE_BITS] <= w_data[lane*LANE_BITS +: LANE_BITS];
      end
    end
  endgenerate

  always @(posedge clk) begin
    if (r_en) r_data <= words[r_addr];
  end
endmodule

// Small memory with an asynchronous read port. Infers LUT RAM or flip-flops.
module systolith_lutram #(
    parameter WIDTH = 32,      // bits of a word
    parameter DEPTH = 2,       // words
    parameter ADDR_BITS = 1,   // bits of an address
    parameter LANES = 1        // write enables; divides WIDTH
) (
    input  wire                 clk,
    input  wire [LANES-1:0]     w_en,
    input  wire [ADDR_BITS-1:0] w_addr,
    input  wire [WIDTH-1:0]     w_data,
    input  wire [ADDR_BITS-1:0] r_addr,
    output wire [WIDTH-1:0]     r_data
);
  localparam LANE_BITS = WIDTH / LANES;

  reg [WIDTH-1:0] words [0:DEPTH-1];

  genvar lane;
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : write_lane
      always @(posedge clk) begin
        if (w_en[lane])
          words[w_addr][lane*LANE_BITS +: LANE_BITS] <= w_data[lane*LANE_BITS +: LANE_BITS];
      end
    end
  endgenerate

  assign r_data = words[r_addr];
endmodule

`default_nettype wire
