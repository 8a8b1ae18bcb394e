// Runs one program on a package in a simulator with unknown values: registers and memories begin
// unknown, and blocks are evaluated when something changes. Memory of 256 KiB at address 0 comes
// from mem.hex; `start_program` (program.vh) writes the registers.
`timescale 1ns / 1ps

module event_driven;
  localparam LIMIT = 200000;  // cycles
  localparam OUTPUT = 18'h20000, OUTPUT_BYTES = 10;

  reg clk = 0, rst_n = 0;
  always #5 clk = ~clk;

  reg [7:0] memory [0:262143];

  reg awvalid = 0, wvalid = 0, arvalid = 0;
  reg [11:0] awaddr = 0, araddr = 0;
  reg [31:0] wdata = 0;
  wire awready, wready, bvalid, arready, rvalid, interrupt;
  wire [31:0] rdata;

  reg reading = 0;
  reg [17:0] read_at;
  reg [8:0] beats_left;
  reg mrvalid = 0, mrlast = 0;
  reg [63:0] mrdata;
  wire marvalid, mrready;
  wire [63:0] maraddr;
  wire [7:0] marlen;

  reg [1:0] writing = 0;
  reg [17:0] write_at;
  reg mbvalid = 0;
  wire mawvalid, mwvalid, mwlast, mbready;
  wire [63:0] mawaddr, mwdata;
  wire [7:0] mwstrb;

  systolith dut (
      .ap_clk(clk), .ap_rst_n(rst_n), .interrupt(interrupt),
      .s_axi_control_awvalid(awvalid), .s_axi_control_awready(awready),
      .s_axi_control_awaddr(awaddr), .s_axi_control_awprot(3'b0),
      .s_axi_control_wvalid(wvalid), .s_axi_control_wready(wready),
      .s_axi_control_wdata(wdata), .s_axi_control_wstrb(4'hf),
      .s_axi_control_bvalid(bvalid), .s_axi_control_bready(1'b1),
      .s_axi_control_arvalid(arvalid), .s_axi_control_arready(arready),
      .s_axi_control_araddr(araddr), .s_axi_control_arprot(3'b0),
      .s_axi_control_rvalid(rvalid), .s_axi_control_rready(1'b1), .s_axi_control_rdata(rdata),
      .m_axi_gmem_arvalid(marvalid), .m_axi_gmem_arready(!reading),
      .m_axi_gmem_araddr(maraddr), .m_axi_gmem_arlen(marlen),
      .m_axi_gmem_rvalid(mrvalid), .m_axi_gmem_rready(mrready), .m_axi_gmem_rdata(mrdata),
      .m_axi_gmem_rlast(mrlast), .m_axi_gmem_rresp(2'b0), .m_axi_gmem_rid(1'b0),
      .m_axi_gmem_awvalid(mawvalid), .m_axi_gmem_awready(writing == 0),
      .m_axi_gmem_awaddr(mawaddr),
      .m_axi_gmem_wvalid(mwvalid), .m_axi_gmem_wready(writing == 1),
      .m_axi_gmem_wdata(mwdata), .m_axi_gmem_wstrb(mwstrb), .m_axi_gmem_wlast(mwlast),
      .m_axi_gmem_bvalid(mbvalid), .m_axi_gmem_bready(mbready), .m_axi_gmem_bresp(2'b0),
      .m_axi_gmem_bid(1'b0)
  );

  integer lane;
  always @(posedge clk)
    if (!reading) begin
      if (marvalid === 1'b1) begin
        read_at <= {maraddr[17:3], 3'b0};
        beats_left <= marlen + 1;
        reading <= 1;
      end
    end else begin
      if (mrvalid && mrready) begin
        mrvalid <= 0;
        if (mrlast) begin
          reading <= 0;
          mrlast <= 0;
        end
      end
      if ((!mrvalid || mrready) && beats_left != 0) begin
        for (lane = 0; lane < 8; lane = lane + 1) mrdata[8*lane+:8] <= memory[read_at+lane];
        mrvalid <= 1;
        mrlast <= beats_left == 1;
        beats_left <= beats_left - 1;
        read_at <= read_at + 8;
      end
    end

  integer strobe;
  always @(posedge clk)
    case (writing)
      0:
        if (mawvalid === 1'b1) begin
          write_at <= {mawaddr[17:3], 3'b0};
          writing <= 1;
        end
      1:
        if (mwvalid) begin
          for (strobe = 0; strobe < 8; strobe = strobe + 1)
            if (mwstrb[strobe]) memory[write_at+strobe] <= mwdata[8*strobe+:8];
          write_at <= write_at + 8;
          mbvalid <= mwlast;
          if (mwlast) writing <= 2;
        end
      default:
        if (mbready) begin
          mbvalid <= 0;
          writing <= 0;
        end
    endcase

  task write_register(input [11:0] addr, input [31:0] value);
    begin
      @(negedge clk);
      awaddr = addr;
      wdata = value;
      awvalid = 1;
      wvalid = 1;
      fork
        begin
          @(posedge clk);
          while (awready !== 1) @(posedge clk);
          #1 awvalid = 0;
        end
        begin
          @(posedge clk);
          while (wready !== 1) @(posedge clk);
          #1 wvalid = 0;
        end
      join
      while (bvalid !== 1) @(posedge clk);
      @(posedge clk);
    end
  endtask

  task show_register(input [11:0] addr);
    begin
      @(negedge clk);
      araddr = addr;
      arvalid = 1;
      @(posedge clk);
      while (arready !== 1) @(posedge clk);
      #1 arvalid = 0;
      while (rvalid !== 1) @(posedge clk);
      $display("%h %h", addr, rdata);
      @(posedge clk);
    end
  endtask

  `include "program.vh"

  integer n;
  initial begin
    $readmemh("mem.hex", memory);
    repeat (8) @(posedge clk);
    #1 rst_n = 1;
    start_program;
    for (n = 0; interrupt !== 1 && n < LIMIT; n = n + 1) @(posedge clk);
    show_register(12'h000);
    show_register(12'h044);
    show_register(12'h050);
    for (n = 0; n < OUTPUT_BYTES; n = n + 1) $display("%h", memory[OUTPUT+n]);
    $finish;
  end
endmodule
