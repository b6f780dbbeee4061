-- Firing rates, synaptic operations and MACs of ms.evaluate against brute-force counts; steps, threads and order of calls.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

-- Non-zero inputs of a convolution times the outputs each reaches, by visiting every product; and all products, outputs included.
local function conv_products(x, options, cout, kernel)
  local size = x.shape
  local h, w = size[#size - 1], size[#size]
  local cin = size[#size - 2]
  local images = x:reshape(-1, cin, h, w):float():totable()
  local sh, sw, ph, pw, dh, dw = options.stride[1], options.stride[2], options.padding[1], options.padding[2], options.dilation[1], options.dilation[2]
  local oh = (h + 2 * ph - dh * (kernel[1] - 1) - 1) // sh + 1
  local ow = (w + 2 * pw - dw * (kernel[2] - 1) - 1) // sw + 1
  local per_group, out_group = cin // options.groups, cout // options.groups
  local reached, all = 0, 0
  for _, image in ipairs(images) do
    for o = 0, cout - 1 do
      for i = 0, oh - 1 do
        for j = 0, ow - 1 do
          for c = 0, per_group - 1 do
            for a = 0, kernel[1] - 1 do
              for b = 0, kernel[2] - 1 do
                all = all + 1
                local row, column = i * sh - ph + a * dh, j * sw - pw + b * dw
                local plane = image[(o // out_group) * per_group + c + 1]
                if row >= 0 and row < h and column >= 0 and column < w and plane[row + 1][column + 1] ~= 0 then reached = reached + 1 end
              end
            end
          end
        end
      end
    end
  end
  return reached, all
end

local function nonzero(x) return x:ne(0):sum():item() end

TestSynops = {}

function TestSynops:test_every_kind_of_convolution()
  ms.manual_seed(3)
  local cases = {
    { 2, 3, 3, {} }, { 2, 3, 3, { padding = 1 } }, { 2, 3, { 3, 2 }, { stride = { 2, 1 }, padding = { 1, 0 } } },
    { 2, 2, 2, { dilation = 2, padding = 1 } }, { 4, 6, 3, { groups = 2, padding = 1 } }, { 4, 4, 3, { groups = 4, padding = 2 } },
    { 3, 5, 1, { stride = 2 } }, { 3, 2, 3, { stride = 3, padding = 1 } },
    { 8, 3, 3, { padding = 1 } }, { 16, 4, 3, { stride = 2, groups = 2 } }, { 24, 2, 1, {} }, -- stored as bits
  }
  for i, case in ipairs(cases) do
    local cin, cout, kernel, options = table.unpack(case)
    local conv = nn.Conv2d(cin, cout, kernel, options)
    local x = (nn.LIF()(ms.randn(2, 2, cin, 6, 7) * 2))
    lu.assertEquals(x.dtype, "spike")
    local want = conv_products(x, conv.options, cout, conv.kernel_size)
    local n = nonzero(x)
    lu.assertEquals(conv:synops(x):totable(), { n, want }, "case " .. i)
    lu.assertEquals(conv:synops(x:float()):totable(), { n, want }, "reals, case " .. i)
    local static = x[1]:unsqueeze(1):expand(5, -1, -1, -1, -1)
    lu.assertEquals((conv:synops(x[1]) * 5):totable(), conv:synops(static):totable(), "computed once, case " .. i)
  end
end

function TestSynops:test_linear_layers()
  for _, cin in ipairs { 5, 8, 40 } do
    local x = (nn.LIF()(ms.randn(3, 7, cin) * 2))
    lu.assertEquals(nn.Linear(cin, 6):synops(x):totable(), { nonzero(x), nonzero(x) * 6 }, cin .. " inputs")
    lu.assertTrue(nonzero(x) > 0)
  end
end

function TestSynops:test_a_whole_network()
  ms.manual_seed(5)
  local net = nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.LIF(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, { stride = 2, padding = 1, groups = 2 }),
    nn.BatchNorm2d(4), nn.LIF { v_threshold = 0.5 }, nn.Flatten(), nn.Linear(16, 6), nn.IF(), nn.Linear(6, 3),
  }
  local T, batches = 3, {}
  for i, n in ipairs { 4, 3 } do
    batches[i] = { ms.randn(n, 1, 7, 7):unsqueeze(1):expand(T, n, 1, 7, 7), ms.randint(0, 3, { n }, { dtype = "int64" }) }
  end
  net:train()
  for _, b in ipairs(batches) do net(b[1]) end -- running statistics
  local want = { synops = {}, spikes = 0, sites = 0, right = 0, loss = 0, macs = 0, products = {} }
  net:eval()
  for _, b in ipairs(batches) do
    local h = b[1]
    for i = 1, #net do
      local layer = net[i]
      local class = layer:class()
      if class == "Conv2d" then
        local reached, all = conv_products(h, layer.options, layer.out_channels, layer.kernel_size)
        want.products[i] = all // (T * b[1].shape[2])
        if i == 1 then want.macs = want.macs + all else want.synops[i] = (want.synops[i] or 0) + reached end
      elseif class == "Linear" then
        want.synops[i] = (want.synops[i] or 0) + nonzero(h) * layer.out_features
        want.products[i] = layer.in_features * layer.out_features
      end
      h = (layer(h))
      if class == "LIF" or class == "IF" then
        want.spikes, want.sites = want.spikes + h:sum():item(), want.sites + h:numel()
      end
    end
    local mean = h:float():mean(1)
    want.right = want.right + mean:argmax(-1):eq(b[2]):sum():item()
    want.loss = want.loss - mean:log_softmax(-1):gather(2, b[2]:view(-1, 1)):sum():item()
  end
  local i = 0
  local accuracy, loss, rate, synops, layers = ms.evaluate(net, function()
    i = i + 1
    if batches[i] then return batches[i][1], batches[i][2] end
  end)
  s.near(accuracy, want.right / 7)
  s.near(loss, want.loss / 7, 1e-5)
  s.near(rate, want.spikes / want.sites)
  lu.assertTrue(want.spikes > 50 and want.spikes < want.sites)
  s.near(synops, (want.synops[5] + want.synops[9] + want.synops[11]) / 7)
  local listed = {}
  for k, layer in ipairs(layers) do listed[k] = { layer.name, layer.input, layer.operations, layer.macs } end
  lu.assertEquals(listed, { { "0", "reals", want.macs / 7, want.products[1] }, { "4", "spikes", want.synops[5] / 7, want.products[5] },
    { "8", "spikes", want.synops[9] / 7, want.products[9] }, { "10", "spikes", want.synops[11] / 7, want.products[11] } })
  lu.assertStrContains(tostring(layers), ("MACs of layers fed reals: 0 %.4g; energy "):format(want.macs / 7))
  lu.assertTrue(not net.training)
  local without = select(4, ms.evaluate(net, function()
    i = i - 1
    if i > 1 then return batches[1][1], batches[1][2] end
  end, { synops = false }))
  lu.assertEquals(without, 0)
end

TestSteps = {}

local function convolutional()
  ms.manual_seed(8)
  local net = nn.Sequential {
    nn.Conv2d(2, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.LIF { surrogate = "atan" }, nn.AvgPool2d(2),
    nn.Residual { nn.Conv2d(4, 4, 3, { padding = 1 }), nn.Identity(), neuron = nn.PLIF() }, nn.Flatten(), nn.Linear(16, 3),
  }
  net:parameters()
  return net
end

-- In evaluation normalisation does not look at other time steps: step by step is the call, bit for bit; gradients to rounding.
function TestSteps:test_convolutional_network_in_evaluation()
  local x = ms.randn(5, 3, 2, 4, 4) * 2
  local a, b = convolutional(), convolutional()
  for _, net in ipairs { a, b } do
    net:train()
    net(x)
    net:eval()
  end
  local y = ms.tensor({ 0, 1, 2 }, { dtype = "int64" })
  local whole, steps = a(x), {}
  b:reset_state()
  for t = 1, 5 do steps[t] = b:step(x[t]) end
  local joined = ms.stack(steps, 1)
  lu.assertEquals(joined:totable(), whole:totable())
  ms.loss.SDT()(whole, y):backward()
  ms.loss.SDT()(joined, y):backward()
  for name, p in a:named_parameters() do
    for other, q in b:named_parameters() do
      if other == name then s.near(q.grad, p.grad, 1e-3, name) end
    end
  end
end

TestThreads = {}

-- Whole trainings in one process, each with another number of threads.
function TestThreads:test_threads_change_no_bit()
  local core = require "moonspike.core"
  local before, loose, first = core.device.threads(), ms.deterministic(), nil
  ms.deterministic(true)
  for _, n in ipairs { 1, 2, 3, 7 } do
    core.device.threads(n)
    ms.manual_seed(1)
    local net = nn.Sequential { nn.Conv2d(1, 16, 3, { padding = 1, bias = false }), nn.BatchNorm2d(16), nn.LIF(), nn.MaxPool2d(2),
      nn.Conv2d(16, 16, 3, { padding = 1, groups = 4 }), nn.tdBN(16), nn.PLIF(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 36, 10) }
    local criterion, opt = ms.loss.TRT(net), ms.optim.Adam(net:parameters(), { lr = 0.01 })
    local text = {}
    for _ = 1, 3 do
      local x = ms.randn(9, 1, 12, 12):unsqueeze(1):expand(4, 9, 1, 12, 12)
      local y = ms.randint(0, 10, { 9 }, { dtype = "int64" })
      opt:zero_grad()
      local l = criterion(net(x), y)
      l:backward()
      text[#text + 1] = l:bytes() .. ("%a"):format(nn.utils.clip_grad_norm(net:parameters(), 1):item())
      opt:step()
    end
    for _, t in pairs(net:state_dict()) do text[#text + 1] = t:bytes() end
    local bytes = table.concat(text)
    first = first or bytes
    lu.assertTrue(bytes == first, n .. " threads end differently")
  end
  core.device.threads(before)
  ms.deterministic(loose)
end

TestSchedule = {}

-- A schedule of the user's own needs nothing but the groups; it is saved with any state_dict of its own.
function TestSchedule:test_written_in_lua()
  local p = nn.Parameter(ms.tensor { 1 })
  local opt = ms.optim.SGD({ p }, { lr = 1 })
  local Sawtooth = { t = 0 }
  function Sawtooth:step() self.t = self.t + 1 opt.param_groups[1].lr = 1 / (1 + self.t % 3) end
  function Sawtooth:get_lr() return opt.param_groups[1].lr end
  function Sawtooth:state_dict() return { t = self.t } end
  function Sawtooth:load_state_dict(d) self.t = d.t opt.param_groups[1].lr = 1 / (1 + self.t % 3) end
  local want = 1
  for i = 0, 5 do
    p.grad = ms.tensor { 1 }
    opt:step()
    want = want - 1 / (1 + i % 3)
    s.near(p, { want }, 1e-6)
    Sawtooth:step()
  end
  local file = os.tmpname()
  local net = nn.Module "One" ()
  net.p = p
  ms.checkpoint(file, { model = net, optimizer = opt, scheduler = Sawtooth })
  Sawtooth:step()
  ms.resume(file, { model = net, optimizer = opt, scheduler = Sawtooth })
  lu.assertEquals({ Sawtooth.t, Sawtooth:get_lr() }, { 6, 1 })
  os.remove(file)
end

os.exit(lu.LuaUnit.run() == 0)
