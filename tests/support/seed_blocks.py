"""The code of the document that the client is a face of, block by block, as written but for the import and the name."""

from __future__ import annotations

CREATE = """
from milepost.tracking import Client
import uuid
from datetime import datetime

client = Client(queue_name="workflow_queue")

# Create a new workflow run
workflow_run_id = client.create_workflow_run(
    conn=conn,
    workflow_name="data_pipeline",  # Must match ^[a-z][a-z0-9_]*$ and not contain '__'
    workflow_version="1.0.0",  # Must match ^[a-zA-Z0-9._-]+$ and not contain '__'
    inputs={"source": "s3://bucket/data", "target": "warehouse"},
    created_by="pipeline_system",
    tags={"environment": "production", "priority": "high"},
    workflow_hash="sha256_hash_of_definition"
)

print(f"Created workflow run: {workflow_run_id}")
"""

UPDATE = """
from datetime import datetime

# Update workflow status to running
client.update_workflow_run_status(
    conn=conn,
    workflow_run_id=workflow_run_id,
    status="running",
    started_at=datetime.now()
)

# Update workflow status to completed
client.update_workflow_run_status(
    conn=conn,
    workflow_run_id=workflow_run_id,
    status="completed",
    result={"output": "final_result", "metrics": {"processed_records": 1000, "duration": "5min"}},
    completed_at=datetime.now(),
    task_count=10  # Number of tasks in the workflow
)

# Update workflow status to failed with detailed error information
client.update_workflow_run_status(
    conn=conn,
    workflow_run_id=workflow_run_id,
    status="failed",
    error={
        "type": "ProcessingError",
        "message": "Data source unavailable",
        "details": {
            "source_url": "s3://bucket/data",
            "attempted_at": datetime.now().isoformat(),
            "retries_attempted": 3
        },
        "timestamp": datetime.now().isoformat()
    }
)
"""

TASKS = """
# Spawn a task that's part of a workflow
task_id, run_id, actual_workflow_run_id = client.spawn_task(
    conn=conn,
    task_name="extract_data",
    params={"workflow_run_id": workflow_run_id},  # Link to workflow in parameters
    headers={"workflow_run_id": str(workflow_run_id)}  # Also store in headers
)
"""

FULL = """
from milepost.tracking import Client
from datetime import datetime

def execute_data_pipeline():
    client = Client(queue_name="pipeline_queue")

    with psycopg.connect("your_connection_string") as conn:
        # Create workflow run
        workflow_run_id = client.create_workflow_run(
            conn=conn,
            workflow_name="data_pipeline",
            workflow_version="1.0.0",
            inputs={"source": "s3://bucket/data", "target": "warehouse"},
            created_by="etl_system",
            tags={"environment": "production", "team": "data-eng"}
        )

        # Update status to running
        client.update_workflow_run_status(
            conn=conn,
            workflow_run_id=workflow_run_id,
            status="running",
            started_at=datetime.now()
        )

        try:
            # Spawn extraction task
            extract_task_id, extract_run_id, _ = client.spawn_task(
                conn=conn,
                task_name="extract_data",
                params={"workflow_run_id": workflow_run_id, "source": "s3://bucket/data"},
                headers={"workflow_run_id": str(workflow_run_id)}
            )

            # Process the extraction task
            # ... task processing logic ...

            # Spawn transformation task after extraction completes
            transform_task_id, transform_run_id, _ = client.spawn_task(
                conn=conn,
                task_name="transform_data",
                params={"workflow_run_id": workflow_run_id, "input_format": "raw"},
                headers={"workflow_run_id": str(workflow_run_id)}
            )

            # Process the transformation task
            # ... task processing logic ...

            # Update workflow status to completed
            client.update_workflow_run_status(
                conn=conn,
                workflow_run_id=workflow_run_id,
                status="completed",
                result={"output": "warehouse", "records_processed": 10000},
                completed_at=datetime.now(),
                task_count=2
            )

        except Exception as e:
            # Update workflow status to failed
            client.update_workflow_run_status(
                conn=conn,
                workflow_run_id=workflow_run_id,
                status="failed",
                error={
                    "type": type(e).__name__,
                    "message": str(e),
                    "timestamp": datetime.now().isoformat()
                }
            )
            raise
"""

CHECKPOINTS = """
from milepost.tracking import Client

client = Client(queue_name="checkpoint_queue")

with psycopg.connect("your_connection_string") as conn:
    # Get all checkpoints associated with a specific run
    checkpoints = client.get_checkpoints_for_run(conn, run_id)
    print(f"Found {len(checkpoints)} checkpoints: {list(checkpoints.keys())}")

    # Get a specific checkpoint for a run
    progress_checkpoint = client.get_run_checkpoint(conn, run_id, "progress")
    if progress_checkpoint:
        print(f"Current progress: {progress_checkpoint}")

    # Save a checkpoint for a specific step in the run
    client.save_checkpoint_for_run(
        conn=conn,
        run_id=run_id,
        step_name="current_step",
        data={"step": 3, "total": 10, "status": "in_progress"}
    )

    # If you know the associated task_id, you can pass it explicitly
    client.save_checkpoint_for_run(
        conn=conn,
        run_id=run_id,
        step_name="detailed_state",
        data={"state": "processing", "details": {"item": 1, "total": 100}},
        task_id=task_id  # Specify the task_id if known
    )
"""
