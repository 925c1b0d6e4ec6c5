def test_a(runtime, bundle):
    done = runtime.output(bundle("echo hi; cat /proc/self/mountinfo; id"))
    print(done)
    assert done.lines[0] == "hi"
def test_b(runtime, bundle):
    id = runtime.started(bundle("echo hi; sleep 100"))
    runtime.wait_for_text(id, "hi")
    print(runtime.state(id))
