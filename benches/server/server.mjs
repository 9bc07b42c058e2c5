#!/usr/bin/env node
// A stdio server without a library: its one tool answers at once. Lines that came together are answered in one write, so that it
// stays ahead of whatever is in front of it.
const tool = { name: 'nothing', description: 'Says hello', inputSchema: { type: 'object', properties: {} } };
const answers = {
  initialize: (params) => ({
    protocolVersion: params.protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: 'bench', version: '1.0.0' },
  }),
  ping: () => ({}),
  'tools/list': () => ({ tools: [tool] }),
  'tools/call': () => ({ content: [{ type: 'text', text: 'hello' }] }),
};

let rest = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (piece) => {
  const lines = (rest + piece).split('\n');
  rest = lines.pop();
  const said = lines.filter(Boolean).map(answered).join('');
  if (said) process.stdout.write(said);
});

function answered(line) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return '';
  const answer = answers[method];
  const said = answer ? { result: answer(params) } : { error: { code: -32601, message: 'Not offered' } };
  return `${JSON.stringify({ jsonrpc: '2.0', id, ...said })}\n`;
}
