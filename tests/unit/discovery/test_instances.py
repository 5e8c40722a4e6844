from meshdiscovery.instances import Instances


def test_a_goodbye_names_the_node_its_instance_stood_for() -> None:
    instances = Instances()
    assert instances.bind("web7-0a._meshnode._tcp.local.", "a") is None
    assert instances.release("WEB7-0a._meshnode._tcp.local.") == "a"
    assert instances.release("web7-0a._meshnode._tcp.local.") is None


def test_binding_again_changes_nothing() -> None:
    instances = Instances()
    instances.bind("one", "a")
    assert instances.bind("One", "a") is None
    assert len(instances) == 1


def test_the_goodbye_of_a_superseded_instance_means_nothing() -> None:
    instances = Instances()
    instances.bind("old", "a")
    assert instances.bind("new", "a") is None
    assert instances.release("old") is None
    assert instances.release("new") == "a"


def test_an_instance_that_stands_for_another_node_displaces_the_former() -> None:
    instances = Instances()
    instances.bind("one", "a")
    assert instances.bind("one", "b") == "a"
    assert instances.release("one") == "b"
    assert len(instances) == 0


def test_two_nodes_can_exchange_their_instances() -> None:
    instances = Instances()
    instances.bind("one", "a")
    instances.bind("two", "b")
    assert instances.bind("one", "b") == "a"
    assert instances.bind("two", "a") is None
    assert instances.release("one") == "b"
    assert instances.release("two") == "a"


def test_many_names_for_one_node_take_one_place() -> None:
    instances = Instances()
    for number in range(1000):
        instances.bind(f"name-{number}", "a")
    assert len(instances) == 1
