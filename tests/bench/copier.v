// A core of its own kind with the pins of ours, to test the bus models of the RTL device without it:
// it copies one burst, and breaks the rules of AXI that register 0x08c asks for.
//
//   0x040 start   0x048 interrupt enable   0x04c interrupt status (write one to clear)
//   0x080 source, 0x084 its upper half   0x088 beats - 1   0x08c mischief
//   0x090 target, 0x094 its upper half   0x098 responses seen: read 1:0, write 3:2
//
// mischief: 0 WLAST one beat early, 1 RREADY toggles, 2 AxSIZE one too small, 3 AWADDR changes while
// it waits, 4 the write goes before its address.

module systolith(
  input ap_clk, input ap_rst_n, output interrupt,
  input [11:0] s_axi_control_awaddr, input s_axi_control_awvalid, output s_axi_control_awready,
  input [31:0] s_axi_control_wdata, input [3:0] s_axi_control_wstrb,
  input s_axi_control_wvalid, output s_axi_control_wready,
  output [1:0] s_axi_control_bresp, output reg s_axi_control_bvalid, input s_axi_control_bready,
  input [11:0] s_axi_control_araddr, input s_axi_control_arvalid, output s_axi_control_arready,
  output reg [31:0] s_axi_control_rdata, output [1:0] s_axi_control_rresp,
  output reg s_axi_control_rvalid, input s_axi_control_rready,
  output [63:0] m_axi_gmem_araddr, output [7:0] m_axi_gmem_arlen, output [2:0] m_axi_gmem_arsize,
  output [1:0] m_axi_gmem_arburst, output [3:0] m_axi_gmem_arcache, output [2:0] m_axi_gmem_arprot,
  output reg m_axi_gmem_arvalid, input m_axi_gmem_arready,
  input [63:0] m_axi_gmem_rdata, input [1:0] m_axi_gmem_rresp, input m_axi_gmem_rlast,
  input m_axi_gmem_rvalid, output m_axi_gmem_rready,
  output [63:0] m_axi_gmem_awaddr, output [7:0] m_axi_gmem_awlen, output [2:0] m_axi_gmem_awsize,
  output [1:0] m_axi_gmem_awburst, output [3:0] m_axi_gmem_awcache, output [2:0] m_axi_gmem_awprot,
  output reg m_axi_gmem_awvalid, input m_axi_gmem_awready,
  output [63:0] m_axi_gmem_wdata, output [7:0] m_axi_gmem_wstrb, output m_axi_gmem_wlast,
  output m_axi_gmem_wvalid, input m_axi_gmem_wready,
  input [1:0] m_axi_gmem_bresp, input m_axi_gmem_bvalid, output m_axi_gmem_bready
);
  reg [31:0] registers[0:63];
  reg [63:0] buffer[0:255];
  reg [8:0] taken, given;
  reg reading, writing, w_active, b_seen, toggle;
  reg [3:0] responses;
  reg [31:0] starts;
  wire [31:0] mischief = registers[6'h23];
  wire [7:0] length = registers[6'h22][7:0];

  wire write = s_axi_control_awvalid & s_axi_control_wvalid & ~s_axi_control_bvalid;
  wire read = s_axi_control_arvalid & ~s_axi_control_rvalid;
  wire [5:0] target = s_axi_control_awaddr[7:2], source = s_axi_control_araddr[7:2];
  assign s_axi_control_awready = write, s_axi_control_wready = write;
  assign s_axi_control_arready = read, s_axi_control_bresp = 0, s_axi_control_rresp = 0;

  assign m_axi_gmem_araddr = {registers[6'h21], registers[6'h20]};
  assign m_axi_gmem_awaddr = {registers[6'h25], registers[6'h24]} +
    (mischief[3] & toggle ? 64'd8 : 64'd0);
  assign m_axi_gmem_arlen = length, m_axi_gmem_awlen = length;
  assign m_axi_gmem_arsize = mischief[2] ? 2 : 3, m_axi_gmem_awsize = 3;
  assign m_axi_gmem_arburst = 1, m_axi_gmem_awburst = 1;
  assign m_axi_gmem_arcache = 3, m_axi_gmem_awcache = 3;
  assign m_axi_gmem_arprot = 0, m_axi_gmem_awprot = 0;
  assign m_axi_gmem_rready = reading & (~mischief[1] | toggle);
  assign m_axi_gmem_wdata = buffer[given[7:0]], m_axi_gmem_wstrb = 8'hff;
  assign m_axi_gmem_wvalid = w_active;
  assign m_axi_gmem_wlast = given == length - mischief[0];
  assign m_axi_gmem_bready = writing;
  assign interrupt = |(registers[6'h12] & registers[6'h13]);

  wire [23:0] progress_load = taken, progress_execute = 0, progress_drain = starts[23:0];
  wire [23:0] progress_store = given;

  always @(posedge ap_clk) begin
    toggle <= ~toggle;
    if (write) begin
      s_axi_control_bvalid <= 1;
      registers[target] <= target == 6'h13 ? registers[6'h13] & ~s_axi_control_wdata
                                           : s_axi_control_wdata;
      if (target == 6'h10) begin
        m_axi_gmem_arvalid <= 1; reading <= 1; taken <= 0; given <= 0; starts <= starts + 1;
      end
    end else if (s_axi_control_bready) s_axi_control_bvalid <= 0;
    if (read) begin
      s_axi_control_rvalid <= 1;
      s_axi_control_rdata <= source == 6'h26 ? responses : registers[source];
    end else if (s_axi_control_rready) s_axi_control_rvalid <= 0;

    if (m_axi_gmem_arvalid & m_axi_gmem_arready) m_axi_gmem_arvalid <= 0;
    if (m_axi_gmem_rvalid & m_axi_gmem_rready) begin
      buffer[taken[7:0]] <= m_axi_gmem_rdata;
      taken <= taken + 1;
      responses[1:0] <= m_axi_gmem_rresp;
      if (m_axi_gmem_rlast) begin
        reading <= 0; writing <= 1; w_active <= 1;
        m_axi_gmem_awvalid <= ~mischief[4];
      end
    end
    if (m_axi_gmem_awvalid & m_axi_gmem_awready) m_axi_gmem_awvalid <= 0;
    if (m_axi_gmem_wvalid & m_axi_gmem_wready) begin
      given <= given + 1;
      if (given == length) begin
        w_active <= 0;
        if (mischief[4]) m_axi_gmem_awvalid <= 1;
      end
    end
    if (m_axi_gmem_bvalid & m_axi_gmem_bready) begin
      responses[3:2] <= m_axi_gmem_bresp;
      writing <= 0;
      registers[6'h13] <= 1;
    end
    if (~ap_rst_n) begin
      s_axi_control_bvalid <= 0; s_axi_control_rvalid <= 0; m_axi_gmem_arvalid <= 0;
      m_axi_gmem_awvalid <= 0; reading <= 0; writing <= 0; w_active <= 0; toggle <= 0;
      registers[6'h12] <= 0; registers[6'h13] <= 0; registers[6'h23] <= 0; starts <= 0;
      taken <= 0; given <= 0;
    end
  end
endmodule
