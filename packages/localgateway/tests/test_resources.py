"""resources.json: what of CloudFormation is read, and what a real engine makes of it."""

import json

import boto3
import pytest

from localgateway.aws.resources import ResourceMaker
from localgateway.aws.template import Resources, read_resources
from localgateway.errors import ResourceError

KEY = {
    "AttributeDefinitions": [{"AttributeName": "PK", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture
def read(tmp_path):
    def read(template):
        path = tmp_path / "resources.json"
        path.write_text(template if isinstance(template, str) else json.dumps(template))
        return read_resources(path, stage="dev", region="eu-central-1")

    return read


def table(**properties):
    return {"Type": "AWS::DynamoDB::Table", "Properties": properties}


def queue(**properties):
    return {"Type": "AWS::SQS::Queue", "Properties": properties}


class TestReading:
    def test_no_file_defines_nothing(self, tmp_path):
        assert not read_resources(tmp_path / "resources.json", stage="dev", region="eu-central-1")

    def test_other_resources_are_left_alone(self, read):
        bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Fn::ImportValue": "x"}}}
        assert not read({"Resources": {"Bucket": bucket}})

    def test_functions_get_the_variables_that_can_be_resolved_locally(self, read):
        told = {
            "TABLE": {"Ref": "T"},
            "SIZE": 7,
            "PLACE": {"Fn::Sub": "${AWS::Region}"},
            "API": {"Ref": "WebsocketAPI"},
        }
        resources = read(
            {
                "Resources": {
                    "T": table(TableName="t"),
                    # Chalice's own, which the template only changes; Chalice's own, written out; and another kind.
                    "WebsocketConnect": {"Properties": {"Environment": {"Variables": told}}},
                    "Tick": {"Type": "AWS::Serverless::Function", "Properties": {"Timeout": 3}},
                    "Other": {"Type": "AWS::Lambda::Function", "Properties": {"Environment": {"Variables": told}}},
                }
            }
        )
        assert list(resources.tables) == ["t"]
        assert resources.variables == {"WebsocketConnect": {"TABLE": "t", "SIZE": "7", "PLACE": "eu-central-1"}}
        assert resources.unresolved == ("API of WebsocketConnect is not set: it uses 'WebsocketAPI'.",)

    @pytest.mark.parametrize(
        ("name", "resolved"),
        [
            ("plain", "plain"),
            ({"Fn::Sub": "peal-${Stage}-t"}, "peal-dev-t"),
            ({"Fn::Sub": ["${a}-${Stage}", {"a": {"Ref": "Size"}}]}, "7-dev"),
            ({"Fn::Sub": "${!Stage}-${AWS::Region}"}, "${Stage}-eu-central-1"),
            ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, {"Ref": "AWS::AccountId"}]]}, "a-dev-000000000000"),
            ({"Ref": "Other"}, "other-name"),
            ({"Ref": "Nameless"}, "Nameless"),
            ({"Fn::GetAtt": ["Q", "QueueName"]}, "q"),
            ({"Fn::If": ["IsDev", {"Ref": "Stage"}, "x"]}, "dev"),
            ({"Fn::If": ["IsProd", "x", "y"]}, "y"),
        ],
    )
    def test_names_are_worked_out(self, read, name, resolved):
        resources = read(
            {
                "Parameters": {"Stage": {"Type": "String"}, "Size": {"Type": "Number", "Default": 7}},
                "Conditions": {
                    "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
                    "IsProd": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]},
                },
                "Resources": {
                    "Table": table(TableName=name),
                    "Other": table(TableName="other-name"),
                    "Nameless": table(),
                    "Q": queue(QueueName="q"),
                },
            }
        )
        assert next(iter(resources.tables)) == resolved

    def test_a_dead_letter_queue_is_found_by_its_arn(self, read):
        resources = read(
            {
                "Resources": {
                    "Jobs": queue(
                        QueueName="jobs",
                        RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": "Dead.Arn"}, "maxReceiveCount": 3},
                    ),
                    "Dead": queue(QueueName={"Fn::Sub": "${Stage}-dead"}),
                }
            }
        )
        policy = resources.queues["jobs"]["RedrivePolicy"]
        assert policy == {"deadLetterTargetArn": "arn:aws:sqs:eu-central-1:000000000000:dev-dead", "maxReceiveCount": 3}

    @pytest.mark.parametrize(
        "part",
        [
            {"Fn::ImportValue": "x"},
            {"Ref": "Nobody"},
            {"Fn::GetAtt": ["T", "StreamArn"]},
            {"Fn::If": ["Unknown", 1, 2]},
            {"Fn::If": ["Never", 1, 2]},
        ],
    )
    def test_what_cannot_be_worked_out_is_named(self, read, part):
        conditions = {"Never": {"Fn::Not": [{"Fn::Equals": [1, 1]}]}}
        with pytest.raises(ResourceError, match=r"uses '.+', which cannot be resolved on this machine\."):
            read({"Conditions": conditions, "Resources": {"T": table(TableName="t", SSESpecification=part)}})

    @pytest.mark.parametrize("text", ["no json", "[]", '{"Resources": [1]}'])
    def test_a_file_that_is_no_template_is_refused(self, read, text):
        with pytest.raises(ResourceError, match="is not a CloudFormation template"):
            read(text)


@pytest.fixture
def make(request):
    """A maker over the test session's engine, for resources whose names are this test's own."""
    makers = []

    def make(resources):
        maker = ResourceMaker(resources)
        makers.append(maker)
        return maker

    yield make
    for maker in makers:
        maker.close()


@pytest.fixture
def dynamodb():
    client = boto3.client("dynamodb")
    yield client
    client.close()


@pytest.mark.slow
class TestMaking:
    def test_a_table_has_what_the_api_takes_of_its_definition(self, make, dynamodb):
        definition = KEY | {
            "TableName": "made",
            "BillingMode": "PROVISIONED",
            "ProvisionedThroughput": {"ReadCapacityUnits": "5", "WriteCapacityUnits": 6},
            "StreamSpecification": {"StreamViewType": "KEYS_ONLY"},
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": "true"},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "SSESpecification": {"SSEEnabled": True},
            "DeletionProtectionEnabled": "false",
        }
        make(Resources({"made": definition}, {})).create()
        made = dynamodb.describe_table(TableName="made")["Table"]
        assert made["ProvisionedThroughput"]["ReadCapacityUnits"] == 5
        assert made["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        ttl = dynamodb.describe_time_to_live(TableName="made")["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
        dynamodb.delete_table(TableName="made")

    def test_existing_tables_and_queues_stay_as_they_are(self, make, dynamodb):
        maker = make(Resources({"kept": KEY}, {}))
        maker.create()
        dynamodb.put_item(TableName="kept", Item={"PK": {"S": "x"}})
        maker.create()
        assert dynamodb.scan(TableName="kept")["Count"] == 1

    def test_clearing_leaves_the_tables_and_nothing_in_them(self, make, dynamodb):
        maker = make(Resources({"cleared": KEY}, {}))
        maker.create()
        dynamodb.put_item(TableName="cleared", Item={"PK": {"S": "x"}})
        maker.clear()
        assert dynamodb.scan(TableName="cleared")["Count"] == 0
        dynamodb.delete_table(TableName="cleared")
        maker.clear()
        assert dynamodb.scan(TableName="cleared")["Count"] == 0

    def test_queues_get_their_attributes_and_their_dead_letter_queue(self, make):
        sqs = boto3.client("sqs")
        arn = "arn:aws:sqs:eu-central-1:000000000000:dead.fifo"
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": 3}
        jobs = {
            "FifoQueue": True,
            "VisibilityTimeout": 90,
            "RedrivePolicy": policy,
            "Tags": [],
            "QueueName": "jobs.fifo",
        }
        maker = make(Resources({}, {"jobs.fifo": jobs, "dead.fifo": {"FifoQueue": "true"}}))
        maker.create()
        maker.create()
        url = sqs.get_queue_url(QueueName="jobs.fifo")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["VisibilityTimeout"] == "90"
        assert attributes["FifoQueue"] == "true"
        assert json.loads(attributes["RedrivePolicy"]) == policy
        sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="d")
        maker.clear()
        assert "Messages" not in sqs.receive_message(QueueUrl=url)
        sqs.close()

    def test_a_definition_that_the_engine_refuses_is_one_sentence(self, make):
        with pytest.raises(ResourceError, match=r"The tables and queues of resources\.json cannot be made: .+"):
            make(Resources({"x": KEY}, {})).create()

    def test_tables_on_aws_are_never_cleared(self, make, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.eu-central-1.amazonaws.com")
        maker = make(Resources({"precious": KEY}, {}))
        with pytest.raises(ResourceError, match=r"Refusing to clear tables on dynamodb\.eu-central-1\.amazonaws\.com"):
            maker.clear()
