// Stand-in for the memory modules of a package, as an unkind macro would be: words are unknown
// until they are written, and a read returns nonsense when it meets a write of the same word.
module systolith_ram #(
    parameter WIDTH = 32,
    parameter DEPTH = 64,
    parameter ADDR_BITS = 6,
    parameter LANES = 1
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
  localparam [63:0] NONSENSE = 64'hb5a6_c7d8_3e4f_5a6b;

  reg [WIDTH-1:0] words [0:DEPTH-1];

  integer index;
  initial for (index = 0; index < DEPTH; index = index + 1) words[index] = {(WIDTH / 64 + 1){NONSENSE}};

  integer lane;
  always @(posedge clk) begin
    for (lane = 0; lane < LANES; lane = lane + 1)
      if (w_en[lane])
        words[w_addr][lane*LANE_BITS +: LANE_BITS] <= w_data[lane*LANE_BITS +: LANE_BITS];
    if (r_en)
      r_data <= (|w_en && w_addr == r_addr) ? {(WIDTH / 64 + 1){~NONSENSE}} : words[r_addr];
  end
endmodule

module systolith_lutram #(
    parameter WIDTH = 32,
    parameter DEPTH = 2,
    parameter ADDR_BITS = 1,
    parameter LANES = 1
) (
    input  wire                 clk,
    input  wire [LANES-1:0]     w_en,
    input  wire [ADDR_BITS-1:0] w_addr,
    input  wire [WIDTH-1:0]     w_data,
    input  wire [ADDR_BITS-1:0] r_addr,
    output wire [WIDTH-1:0]     r_data
);
  localparam LANE_BITS = WIDTH / LANES;
  localparam [63:0] NONSENSE = 64'h1234_5678_9abc_def1;

  reg [WIDTH-1:0] words [0:DEPTH-1];

  integer index;
  initial for (index = 0; index < DEPTH; index = index + 1) words[index] = {(WIDTH / 64 + 1){NONSENSE}};

  integer lane;
  always @(posedge clk)
    for (lane = 0; lane < LANES; lane = lane + 1)
      if (w_en[lane])
        words[w_addr][lane*LANE_BITS +: LANE_BITS] <= w_data[lane*LANE_BITS +: LANE_BITS];

  assign r_data = words[r_addr];
endmodule
