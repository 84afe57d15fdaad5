// SPDX-License-Identifier: GPL-2.0-only
// A server of Node's net module. usage: PORT PATTERN
'use strict';
const fs = require('fs');
const net = require('net');

const port = Number(process.argv[2]);
const path = process.argv[3];
const pattern = fs.readFileSync(path);

// Writes the pieces in order, each when there is room for it.
function write(socket, pieces, done) {
  while (pieces.length) {
    if (socket.destroyed) return;
    if (!socket.write(pieces.shift())) {
      socket.once('drain', () => write(socket, pieces, done));
      return;
    }
  }
  done();
}

function serve(socket) {
  let inbox = Buffer.alloc(0);
  let busy = false;
  let counting = false;
  let ended = false;
  const next = () => {
    busy = false;
    requests();
    if (ended && !busy) socket.end();
  };
  const requests = () => {
    while (!busy && !counting) {
      const end = inbox.indexOf(10);
      if (end < 0) return;
      const words = inbox.subarray(0, end).toString().split(' ');
      let after = end + 1;
      const [a, b, c] = words.slice(1).map(Number);
      if (words[0] === 'ECHO') {
        if (inbox.length < after + a) return;
        const data = inbox.subarray(after, after + a);
        after += a;
        busy = true;
        inbox = inbox.subarray(after);
        write(socket, [data], next);
        continue;
      }
      inbox = inbox.subarray(after);
      busy = true;
      if (words[0] === 'GIVE') {
        const pieces = [];
        for (let at = a; at < a + b; at += c) pieces.push(pattern.subarray(at, Math.min(at + c, a + b)));
        write(socket, pieces, next);
      } else if (words[0] === 'FILE') {
        socket.write('file\n');
        const file = fs.createReadStream(path, { start: a, end: a + b - 1 });
        file.pipe(socket, { end: false });
        file.once('end', () => { socket.write('end\n'); next(); });
      } else if (words[0] === 'CLOSE' || words[0] === 'SHUT') {
        // end() writes, then shuts down; Node closes when the peer ends too.
        counting = true;
        socket.end(pattern.subarray(0, a));
      }
    }
  };
  socket.on('data', (data) => {
    if (counting) return;
    inbox = inbox.length ? Buffer.concat([inbox, data]) : data;
    requests();
  });
  socket.on('end', () => {
    ended = true;
    if (!busy) socket.end();
  });
  socket.on('error', () => socket.destroy());
}

net.createServer({ allowHalfOpen: true, noDelay: true }, serve).listen(port, '127.0.0.1', 64);
