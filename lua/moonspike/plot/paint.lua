-- An image in the terminal, in the best way that it has.

local core = require "moonspike.core"
local blocks = require "moonspike.plot.blocks"
local graphics = require "moonspike.plot.graphics"
local pixels = require "moonspike.plot.pixels"

local WIDTH = 80 -- characters, where nobody says
local PIXELS = 8 -- a character's width in them, at least
local TALL = 400 -- pixels, to which small images grow

-- Prints x [C, H, W], values from 0 to 255: as pixels where the terminal shows them, else as half blocks in colour, and as letters where the output
-- is none. events: two channels are OFF and ON; flat: its lines, each a frame of its own, stay as many as they are.
return function(x, opt)
  local room, protocol = opt.width or math.max(8, core.system.columns() or WIDTH), graphics.protocol()
  if protocol then
    x = pixels.shrunk(x, PIXELS * room, opt.flat)
    local times = math.max(1, math.min(PIXELS * room // x.shape[3], TALL // x.shape[2]))
    return print(graphics[protocol](pixels.grown(pixels.rgb(x, opt.events), times)))
  end
  local small = pixels.shrunk(x, room, opt.flat)
  if opt.events and small ~= x then small = pixels.bright(small, true) end -- means of few events are dark
  print((core.system.isatty(1) and blocks.colour or blocks.letters)(pixels.rgb(small, opt.events)))
end
